"""Drawings made of rectangles and text, and how they are written as SVG: no scripts, no fonts, nothing from outside.

A drawing is data, so that it can be written in more than one format (`png.py` has another). Text may come from outside:
it is cleaned of control characters and escaped, and shows as text. Lengths are CSS pixels from the upper left corner.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import escape, quoteattr

from latbench.report.text import clean

INK, PAPER, FAINT = "#000000", "#ffffff", "#595959"
Anchor = Literal["start", "middle", "end"]

_SCALE = ((0, 34, 78), (65, 77, 107), (124, 123, 120), (188, 175, 111), (254, 232, 56))
"""Cividis by its quarters: brightness rises evenly, whatever colours a reader can tell apart."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle. What is `hatched` has thin strokes across it; `says` is what a pointer at rest on it is told."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    hatched: bool = False
    says: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """One line of text; `y` is its baseline."""

    x: float
    y: float
    text: str
    size: float = 12
    anchor: Anchor = "start"
    fill: str = INK
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Drawing:
    """`title` and `description` say the same to those who do not see it."""

    width: float
    height: float
    title: str
    description: str
    shapes: tuple[Box | Label, ...]


def svg(drawing: Drawing) -> str:
    """The drawing as a document of its own."""
    return "\n".join(_svg(drawing)) + "\n"


def _svg(drawing: Drawing) -> Iterator[str]:
    width, height = _number(drawing.width), _number(drawing.height)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'role="img" aria-labelledby="title description" font-family="system-ui, sans-serif">'
    )
    yield f'<title id="title">{_text(drawing.title)}</title>'
    yield f'<desc id="description">{escape(drawing.description)}</desc>'
    yield (
        '<defs><pattern id="few" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        f'<rect width="7" height="7" fill="{PAPER}" fill-opacity="0.3"/>'
        f'<rect width="1.5" height="7" fill="{INK}" fill-opacity="0.45"/></pattern></defs>'
    )
    yield f'<rect width="{width}" height="{height}" fill="{PAPER}"/>'
    for shape in drawing.shapes:
        yield _box(shape) if isinstance(shape, Box) else _label(shape)
    yield "</svg>"


def _box(box: Box) -> str:
    place = f'x="{_number(box.x)}" y="{_number(box.y)}" width="{_number(box.width)}" height="{_number(box.height)}"'
    over = f'<rect {place} fill="url(#few)"/>' if box.hatched else ""
    says = f"<title>{_text(box.says)}</title>" if box.says else ""
    return f"<g>{says}<rect {place} fill={quoteattr(box.fill)}/>{over}</g>"


def _label(label: Label) -> str:
    weight = ' font-weight="bold"' if label.bold else ""
    return (
        f'<text x="{_number(label.x)}" y="{_number(label.y)}" font-size="{_number(label.size)}" '
        f'text-anchor="{label.anchor}" fill={quoteattr(label.fill)}{weight}>{_text(label.text)}</text>'
    )


def _text(text: str) -> str:
    return escape(clean(text))


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def shade(share: float) -> str:
    """The colour of a share on a scale from dark (0) to bright (1)."""
    at = min(max(share, 0.0), 1.0) * (len(_SCALE) - 1)
    first = min(int(at), len(_SCALE) - 2)
    low, high = _SCALE[first], _SCALE[first + 1]
    return "#" + "".join(f"{round(a + (b - a) * (at - first)):02x}" for a, b in zip(low, high, strict=True))


def ink_on(fill: str) -> str:
    """Black or white, whichever can be read better on a colour."""
    return INK if contrast(INK, fill) >= contrast(PAPER, fill) else PAPER


def contrast(one: str, other: str) -> float:
    """The ratio of two colours' luminance (WCAG 2), from 1 to 21; text needs 4.5."""
    dark, bright = sorted((_luminance(one), _luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    parts = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

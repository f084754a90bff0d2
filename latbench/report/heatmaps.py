"""Needle trials as pictures, by length and depth: accuracy, what of it is certain, TTFT, and what went wrong.

Made from the needle block of a summary; nothing is computed here but colours and places. A colour never stands alone:
every cell prints its figure, and below it the interval or the number that it rests on. What rests on few trials is
hatched. What is known to spoil a picture is printed under it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from latbench.model.needle import UNANSWERED, TrialOutcome
from latbench.needle.trial import Kind
from latbench.report import figures
from latbench.report.canvas import FAINT, INK, PAPER, Box, Drawing, Label, ink_on, shade, svg
from latbench.report.png import png

FEW = 10
"""Cells of fewer trials are hatched."""

_LEFT, _CELL, _ROW, _RIGHT, _MARGIN = 110, 128, 74, 320, 24
_GAP = 3
_LINE = 17
_NOTE_CHARS_PIXELS = 6.6  # of a note's character, on the average
_VERDICT_CHARS = 48
_BLANK = "#e8e8e8"
_AXES = (
    "Across: where in the code the needle stands, from the first line (0 %) to the last. Down: length of the prompt."
)
_SLOWEST = 2.0  # as often as slow as the fastest of its row: the dark end

Block = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Face:
    """How a cell looks: its colour, a large line and a small one, or bars of shares instead of one colour."""

    fill: str
    large: str
    small: str
    few: bool
    bars: tuple[tuple[str, str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Map:
    """One picture. `face` is given a cell and the row that it stands in; `beside` is what is said of a row."""

    name: str
    title: str
    face: Callable[[Block, Block], Face]
    beside: Callable[[Block], str]
    legend: tuple[tuple[str, str], ...]
    notes: Callable[[Block], list[str]]


@dataclass(frozen=True, slots=True)
class Group:
    """Outcomes that are drawn as one."""

    letter: str
    label: str
    color: str
    outcomes: frozenset[TrialOutcome]


GROUPS = (
    Group("", "right", "#0072b2", frozenset({TrialOutcome.CORRECT})),
    Group(
        "R",
        "named a rival (planted to look like the needle)",
        "#e69f00",
        frozenset({TrialOutcome.NEAR_MISS, TrialOutcome.WRONG_DECOY}),
    ),
    Group(
        "O",
        "named something else, or what is not there",
        "#d55e00",
        frozenset({TrialOutcome.WRONG_OTHER, TrialOutcome.HALLUCINATED, TrialOutcome.FALSE_PRESENT}),
    ),
    Group("A", "said that it is absent", "#cc79a7", frozenset({TrialOutcome.FALSE_ABSENT})),
    Group(
        "F",
        "no answer in the form that was asked for",
        "#f0e442",
        frozenset(
            {
                TrialOutcome.MULTIPLE_ANSWERS,
                TrialOutcome.OVERLONG,
                TrialOutcome.FORMAT_ERROR,
                TrialOutcome.REFUSED,
                TrialOutcome.EMPTY,
            }
        ),
    ),
    Group("N", "not heard: failed, cut, limited, never sent", "#999999", UNANSWERED),
)
"""What the third picture tells apart, in colours that the colour-blind can (Okabe and Ito), each with a letter."""


ASKED = {
    Kind.CONSTANT: "the value of a constant",
    Kind.SIGNATURE: "the parameters of a function",
    Kind.BODY_FACT: "the function that returns a literal",
    Kind.DESCRIPTION: "the function that does what is described",
    Kind.BUG: "the function that contradicts its own example",
    Kind.EXECUTION: "what a call returns",
    Kind.CHAIN: "what the last of several functions returns",
    Kind.CONTRACT: "the caller that gives wrong arguments",
    Kind.MULTI: "all functions that are registered under a tag",
}
"""What is to be found, in a few words."""


# --- cells ------------------------------------------------------------------------------------------------------------


def _accuracy(cell: Block, _row: Block) -> Face:
    if cell["accuracy"] is None:
        return _blank(f"0 of {cell['planned']} heard")
    ends = cell["ci95"]
    interval = f"{_percent(ends[0])}\N{EN DASH}{_percent(ends[1])} %, n {cell['answered']}"
    return Face(shade(cell["accuracy"]), f"{_percent(cell['accuracy'])} %", interval, cell["answered"] < FEW)


def _certified(cell: Block, _row: Block) -> Face:
    if cell["accuracy"] is None:
        return _blank(f"0 of {cell['planned']} heard")
    small = f"{cell['correct']} of {cell['answered']} right"
    least = int(cell["lower"] * 100)  # downwards: no more is certain
    return Face(shade(cell["lower"]), f"\N{GREATER-THAN OR EQUAL TO} {least} %", small, cell["answered"] < FEW)


def _ttft(cell: Block, row: Block) -> Face:
    times = cell["ttft_ms"]
    median = times["p50"]
    if median is None:
        return _blank(f"n {times['n']}: too few")
    medians = [one["ttft_ms"]["p50"] for one in row["depths"] if one["ttft_ms"]["p50"] is not None]
    slower = median / min(medians) if min(medians) > 0 else 1.0
    interval = figures.interval(times, "p50")
    small = f"{interval}, n {times['n']}" if interval else f"n {times['n']}"
    return Face(shade(1 - (slower - 1) / (_SLOWEST - 1)), f"{figures.number(median)} ms", small, times["n"] < FEW)


def _failures(cell: Block, _row: Block) -> Face:
    counts = [sum(cell["outcomes"].get(str(one), 0) for one in group.outcomes) for group in GROUPS]
    total = sum(counts)
    if not total:
        return _blank("no trials")
    bars = tuple((group.letter, group.color, count / total) for group, count in zip(GROUPS, counts, strict=True))
    failed = [f"{group.letter} {count}" for group, count in zip(GROUPS, counts, strict=True) if group.letter and count]
    return Face(PAPER, f"{counts[0]} of {total}", "  ".join(failed) or "all right", total < FEW, bars)


def _blank(why: str) -> Face:
    return Face(_BLANK, figures.MISSING, why, few=False)


def _percent(share: float) -> str:
    return f"{share * 100:.0f}"


# --- what is said beside and below ------------------------------------------------------------------------------------


def _verdict(row: Block) -> str:
    accuracy = row["accuracy"]
    overall = "not heard" if accuracy is None else f"{_percent(accuracy)} % over all depths"
    return f"{overall}; {row['position']['verdict']}"


def _overall_ttft(row: Block) -> str:
    times = row["ttft_ms"]
    p95 = "" if times["p95"] is None else f", p95 {figures.number(times['p95'])}"
    return f"over all depths: median {figures.number(times['p50'])}{p95}, n {times['n']}"


def _overall_failures(row: Block) -> str:
    mix = [f"{name} {count}" for name, count in row["outcomes"].items() if name != TrialOutcome.CORRECT]
    return f"over all depths: {', '.join(mix)}" if mix else "over all depths: all right"


def _of_shares(found: Block) -> list[str]:
    notes = ["Small: the 95 % interval, and the answers that it rests on. Hatched: fewer than 10 answers."]
    cut = [figures.count(one["length"]) for one in found["truncation"] if one["cut"] is not None]
    if cut:
        notes.append(f"Prompts of {', '.join(cut)} tokens were not read whole by the endpoint: see its limits first.")
    chance = max((row["chance"] for row in found["lengths"]), default=0)
    if chance:
        notes.append(f"Guessing among the candidates reaches {_percent(chance)} % at the most.")
    return notes


def _of_bounds(found: Block) -> list[str]:
    first = "Large: what the answers prove at least (one-sided 95 %). All right, 10 answers prove 74 %, 50 prove 94 %."
    return [first, *_of_shares(found)[1:]]


def _of_ttft(found: Block) -> list[str]:
    notes = [
        "Small: the 95 % interval of the median, and how many answers. Hatched: fewer than 10 answers.",
        "Reading a prompt costs the same wherever the needle stands: all cells of a row should be alike.",
    ]
    control = found["ttft_against_depth"]
    if control["p"] is None:
        return [*notes, "Whether they are could not be tested: no TTFT at two depths that counts."]
    points = round(control["change"] * 100)
    change = f"{points:+d} % from the first line to the last, p {control['p']:.3f}"
    if not control["tripped"]:
        return [*notes, f"They are, as far as {control['n']} answers tell ({change})."]
    why = "a cached prefix, it seems" if control["cached_prefix"] else "caching, or the order of sending"
    return [*notes, f"They are NOT ({change}): {why}. This TTFT is not to be believed."]


def _of_failures(_found: Block) -> list[str]:
    return ["Large: right answers of all trials. Small: how many failed in which way. Hatched: fewer than 10 trials."]


_SHARES = (("0 %", shade(0)), ("25 %", shade(0.25)), ("50 %", shade(0.5)), ("75 %", shade(0.75)), ("100 %", shade(1)))
MAPS = (
    Map("accuracy", "Accuracy: right answers of those that were given", _accuracy, _verdict, _SHARES, _of_shares),
    Map("certified", "Accuracy that is certain: its lower bound", _certified, _verdict, _SHARES, _of_bounds),
    Map(
        "ttft",
        "Median time to first token, in ms",
        _ttft,
        _overall_ttft,
        (
            ("as fast as the fastest of its row", shade(1)),
            ("1.5 times as long", shade(0.5)),
            ("twice or more", shade(0)),
        ),
        _of_ttft,
    ),
    Map(
        "failures",
        "What became of the trials",
        _failures,
        _overall_failures,
        tuple((f"{group.letter}: {group.label}" if group.letter else group.label, group.color) for group in GROUPS),
        _of_failures,
    ),
)


# --- places -----------------------------------------------------------------------------------------------------------


def draw(map_: Map, found: Block, about: str) -> Drawing:
    """The picture of a needle block. `about` says whose it is: endpoint and model."""
    columns = sorted({(cell["from"], cell["to"]) for row in found["lengths"] for cell in row["depths"]})
    width = _LEFT + max(len(columns), 3) * _CELL + _RIGHT
    shapes: list[Box | Label] = [
        Label(_MARGIN, 34, map_.title, 18, bold=True),
        Label(_MARGIN, 56, about, 13),
        Label(_MARGIN, 78, _AXES, 12.5, fill=FAINT),
    ]
    y = 104.0
    y = _legend(map_, y, width, shapes)
    said: list[str] = []
    for kind in dict.fromkeys(row["kind"] for row in found["lengths"]):
        y = _panel(map_, kind, [row for row in found["lengths"] if row["kind"] == kind], columns, y, shapes, said)
    notes = map_.notes(found)
    for note in notes:
        for line in wrap(note, int((width - 2 * _MARGIN) / _NOTE_CHARS_PIXELS)):
            shapes.append(Label(_MARGIN, y, line, 12.5, fill=FAINT))
            y += _LINE
    description = "\n".join([map_.title, *said, *notes])
    return Drawing(width, y + _MARGIN / 2, f"{map_.title}: {about}", description, tuple(shapes))


def _legend(map_: Map, y: float, width: float, shapes: list[Box | Label]) -> float:
    x = float(_MARGIN)
    for text, color in map_.legend:
        takes = 26 + 7.2 * len(text) + 18
        if x + takes > width - _MARGIN and x > _MARGIN:
            x, y = float(_MARGIN), y + 22
        shapes += [Box(x, y - 12, 18, 14, color), Label(x + 24, y, text, 12.5)]
        x += takes
    return y + 34


def _panel(
    map_: Map,
    kind: str,
    rows: Sequence[Block],
    columns: Sequence[tuple[float, float]],
    y: float,
    shapes: list[Box | Label],
    said: list[str],
) -> float:
    """The cells of one kind; gives where it ends. What it says is added to `said`, for those who do not see it."""
    shapes.append(Label(_MARGIN, y, f"{kind}: {ASKED[Kind(kind)]}", 14, bold=True))
    y += 22
    for at, ends in enumerate(columns):
        shapes.append(Label(_LEFT + (at + 0.5) * _CELL, y, _part(ends), 12, "middle"))
    y += 8
    for row in rows:
        shapes.append(Label(_LEFT - 10, y + _ROW / 2 - 2, figures.count(row["length"]), 13, "end", bold=True))
        shapes.append(Label(_LEFT - 10, y + _ROW / 2 + 14, "tokens", 11, "end", FAINT))
        for cell in row["depths"]:
            ends = (cell["from"], cell["to"])
            face = map_.face(cell, row)
            says = f"{kind}, {row['length']:,} tokens, {_part(ends)} of the code: {face.large}, {face.small}"
            said.append(says)
            shapes += _cell(face, _LEFT + columns.index(ends) * _CELL, y, says)
        beside = map_.beside(row)
        said.append(f"{kind}, {row['length']:,} tokens: {beside}")
        x = _LEFT + len(columns) * _CELL + 14
        for number, line in enumerate(wrap(beside, _VERDICT_CHARS)[:4]):
            shapes.append(Label(x, y + 18 + number * 16, line, 12))
        y += _ROW
    return y + 34


def _cell(face: Face, x: float, y: float, says: str) -> Iterator[Box | Label]:
    width, height, middle = _CELL - _GAP, _ROW - _GAP, x + (_CELL - _GAP) / 2
    if not face.bars:
        yield Box(x, y, width, height, face.fill, face.few, says)
        ink = INK if face.few else ink_on(face.fill)
        if face.few:  # strokes across a text are hard to read: it gets a ground of its own
            yield Box(middle - 55, y + 14, 110, 44, PAPER)
        yield Label(middle, y + 34, face.large, 17, "middle", ink, bold=True)
        yield Label(middle, y + 52, face.small, 11.5, "middle", ink)
        return
    yield Box(x, y, width, height, "#f4f4f4", face.few, says)
    at = x + 6
    for letter, color, share in face.bars:
        long = share * (width - 12)
        if share:
            yield Box(at, y + 8, long, 18, color)
        if letter and long >= 12:
            yield Label(at + long / 2, y + 21, letter, 11, "middle", ink_on(color), bold=True)
        at += long
    if face.few:
        yield Box(middle - 55, y + 29, 110, 38, PAPER)
    yield Label(middle, y + 44, face.large, 14, "middle", INK, bold=True)
    yield Label(middle, y + 61, face.small, 11.5, "middle", INK)


def _part(ends: tuple[float, float]) -> str:
    return f"{ends[0] * 100:.0f}\N{EN DASH}{ends[1] * 100:.0f} %"


# --- files ------------------------------------------------------------------------------------------------------------


def drawings(summary: Block) -> Iterator[tuple[str, Drawing]]:
    """A name for a file, and the picture, of each endpoint and step of a run that was sent needle trials."""
    asked = [
        (name, step["index"], one)
        for step in summary["steps"]
        for name, one in step["endpoints"].items()
        if one["needle"] is not None
    ]
    run = summary["run"]
    for number, (endpoint, step, one) in enumerate(asked, 1):
        stem = "needle" if len(asked) == 1 else f"needle-{number}"  # names of endpoints may be no names for files
        which = f", step {step}" if len(summary["steps"]) > 1 else ""
        about = f"{endpoint} ({one['model']}){which}, run {run['id']} of {run['started_at'][:10]}"
        for map_ in MAPS:
            yield f"{stem}-{map_.name}", draw(map_, one["needle"], about)


def svgs(summary: Block) -> dict[str, str]:
    """File name -> SVG of all pictures of a run; none without needle trials."""
    return {f"{name}.svg": svg(drawing) for name, drawing in drawings(summary)}


def pngs(summary: Block) -> dict[str, bytes]:
    """The same as PNG. Raises UserError where matplotlib is not installed."""
    return {f"{name}.png": png(drawing) for name, drawing in drawings(summary)}

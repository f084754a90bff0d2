"""A drawing as PNG, by matplotlib: an extra, imported when it is asked for."""

from io import BytesIO

from latbench.model.errors import UserError
from latbench.report.canvas import PAPER, Box, Drawing
from latbench.report.text import clean

_PIXELS_PER_INCH = 100
_POINTS_PER_PIXEL = 72 / _PIXELS_PER_INCH
_SHARPNESS = 2  # pixels of the picture for each of the drawing
_SIDES = {"start": "left", "middle": "center", "end": "right"}


def png(drawing: Drawing) -> bytes:
    """The picture. Raises UserError where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
    except ImportError as error:
        raise UserError(
            "PNG needs matplotlib: pip install 'latbench[png]', or use the SVG files, which need nothing"
        ) from error
    size = drawing.width / _PIXELS_PER_INCH, drawing.height / _PIXELS_PER_INCH
    figure = Figure(figsize=size, dpi=_PIXELS_PER_INCH * _SHARPNESS, facecolor=PAPER)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, drawing.width), ylim=(drawing.height, 0))
    axes.axis("off")
    for shape in drawing.shapes:
        if isinstance(shape, Box):
            place = (shape.x, shape.y), shape.width, shape.height
            axes.add_patch(Rectangle(*place, facecolor=shape.fill, linewidth=0))
            if shape.hatched:
                axes.add_patch(Rectangle(*place, fill=False, hatch="///", linewidth=0, alpha=0.45))
        else:
            axes.text(
                shape.x,
                shape.y,
                clean(shape.text),
                fontsize=shape.size * _POINTS_PER_PIXEL,
                color=shape.fill,
                ha=_SIDES[shape.anchor],
                va="baseline",
                weight="bold" if shape.bold else "normal",
                parse_math=False,  # text from outside may have dollar signs
            )
    file = BytesIO()
    figure.savefig(file, format="png", metadata={"Title": clean(drawing.title), "Description": drawing.description})
    return file.getvalue()

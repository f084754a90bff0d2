"""Pictures of needle trials: what they print, what they never do with text from outside, and that all can read them."""

import re
import subprocess
import sys
from collections.abc import Iterable
from itertools import product
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.analysis.needle.block import needle_block
from latbench.analysis.needle.trials import TrialRow, columns
from latbench.model.needle import TrialOutcome
from latbench.needle.trial import Kind
from latbench.report.canvas import FAINT, PAPER, Box, contrast, ink_on, shade, svg
from latbench.report.heatmaps import ASKED, FEW, GROUPS, MAPS, draw, pngs, svgs
from latbench.report.png import png

SVG = "{http://www.w3.org/2000/svg}"
STRATA = (0.1, 0.3, 0.5, 0.7, 0.9)
BY_NAME = {map_.name: map_ for map_ in MAPS}


def trial(stratum: float, block: int, outcome: TrialOutcome = TrialOutcome.CORRECT, **changes: Any) -> TrialRow:
    right = outcome == TrialOutcome.CORRECT
    made = TrialRow("bug", "none", 10_000, f"b{block}", stratum, stratum, outcome, right, ttft_ms=500.0 + block)
    return made._replace(**changes)


def block_of(rows: Iterable[TrialRow]) -> dict[str, Any]:
    found = needle_block(columns(rows), seed=1)
    assert found is not None
    return found


def dipped(blocks: int = 30) -> dict[str, Any]:
    """All right but for the middle, which is never found."""
    rows = [
        trial(at, block, TrialOutcome.FALSE_ABSENT if at == 0.5 else TrialOutcome.CORRECT)
        for block, at in product(range(blocks), STRATA)
    ]
    return block_of(rows)


def summary(*blocks: dict[str, Any] | None, steps: int = 1) -> dict[str, Any]:
    endpoints = {f"e{number}": {"needle": block, "model": "m"} for number, block in enumerate(blocks)}
    return {
        "run": {"id": "abc", "started_at": "2026-01-05T08:59:30Z"},
        "steps": [{"index": step, "endpoints": endpoints} for step in range(steps)],
    }


def texts(map_name: str, found: dict[str, Any], about: str = "e") -> list[str]:
    """All that stands in a picture, in its order."""
    root = ElementTree.fromstring(svg(draw(BY_NAME[map_name], found, about)))
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_each_cell_prints_its_figure_and_what_it_rests_on() -> None:
    found = dipped()
    said = texts("accuracy", found)
    assert (said.count("100 %"), said.count("89–100 %, n 30")) == (4 + 1, 4)  # one in the scale
    assert (said.count("0 %"), said.count("0–11 %, n 30")) == (1 + 1, 1)
    assert said.count("bug: the function that contradicts its own example") == 1
    assert [one for one in said if one.endswith("–20 %")] == ["0–20 %"]
    assert "80 % over all depths; dip: the middle is" in " ".join(said)
    said = texts("certified", found)
    assert (said.count("≥ 90 %"), said.count("30 of 30 right")) == (4, 4)
    said = texts("ttft", found)
    assert said.count("514.0 ms") == 5
    assert any(re.fullmatch(r"\d+–\d+, n 30", one) for one in said)
    assert "over all depths: median 514.0, n 150" in said  # in order, they count for too few for a p95
    said = texts("failures", found)
    assert (said.count("30 of 30"), said.count("all right"), said.count("A 30")) == (4, 4, 1)
    assert "over all depths: false_absent 30" in said


def test_few_answers_are_hatched_and_none_are_grey() -> None:
    few = [trial(at, block) for block, at in product(range(FEW - 1), STRATA[:2])]
    gone = [trial(0.9, block, TrialOutcome.TIMEOUT, ttft_ms=None) for block in range(12)]
    enough = [trial(0.7, block) for block in range(FEW)]
    found = block_of([*few, *gone, *enough])
    for name in BY_NAME:
        drawing = draw(BY_NAME[name], found, "e")
        cells = [shape for shape in drawing.shapes if isinstance(shape, Box) and shape.says]
        assert [cell.hatched for cell in cells] == [True, True, False, False], name
    assert "0 of 12 heard" in texts("accuracy", found)
    assert "0 of 12 heard" in texts("certified", found)
    assert "n 0: too few" in texts("ttft", found)
    assert "0 of 12" in texts("failures", found)
    assert "not heard" in " ".join(texts("accuracy", block_of(gone)))


def test_slow_cells_are_dark_by_their_row() -> None:
    rows = [
        trial(at, block, ttft_ms=ms) for block in range(20) for at, ms in ((0.1, 100.0), (0.5, 150.0), (0.9, 900.0))
    ]
    cells = [one.fill for one in draw(BY_NAME["ttft"], block_of(rows), "e").shapes if isinstance(one, Box) and one.says]
    assert cells == [shade(1), shade(0.5), shade(0)]
    still = block_of([trial(0.1, block, ttft_ms=0.0) for block in range(20)])
    assert "0.00 ms" in texts("ttft", still)


@pytest.mark.parametrize(
    ("slope", "says"), [(0.0, "They are, as far as 150 answers tell"), (-300.0, "They are NOT"), (300.0, "order of")]
)
def test_the_control_of_ttft_is_said(slope: float, says: str) -> None:
    rng = np.random.default_rng(1)
    rows = [trial(at, block, ttft_ms=500 + slope * at + rng.normal()) for block, at in product(range(30), STRATA)]
    said = " ".join(texts("ttft", block_of(rows)))
    assert says in said
    assert ("a cached prefix, it seems" in said) == (slope < 0)
    assert re.search(r"over all depths: median [\d.]+, p95 [\d.]+, n 150", said)
    assert "could not be tested" in " ".join(texts("ttft", block_of([trial(0.5, 1)])))


def test_what_spoils_a_picture_stands_under_it() -> None:
    rows = [
        trial(at, block, TrialOutcome.TRUNCATED_PROMPT, right=at > 0.5, input_tokens=6000, expected_input_tokens=9000)
        for block, at in product(range(20), STRATA)
    ]
    said = " ".join(texts("accuracy", block_of(rows)))
    assert "Prompts of 10,000 tokens were not read whole" in said
    guessed = block_of([trial(at, block, chance=1 / 12) for block, at in product(range(20), STRATA)])
    assert "Guessing among the candidates reaches 8 % at the most." in texts("certified", guessed)


def test_kinds_and_lengths_have_panels_and_rows() -> None:
    rows = [
        trial(at, block)._replace(kind=kind, length=length, block=f"{kind}{length}{block}")
        for kind, length, block, at in product(("bug", "chain"), (4000, 16_000), range(3), (0.2, 0.8))
    ]
    said = texts("accuracy", block_of(rows))
    assert [one for one in said if one in ("4,000", "16,000")] == ["4,000", "16,000"] * 2
    assert {f"{kind}: {ASKED[Kind(kind)]}" for kind in ("bug", "chain")} <= set(said)
    assert set(ASKED) == set(Kind)


def test_every_outcome_is_drawn_once() -> None:
    assert sorted(outcome for group in GROUPS for outcome in group.outcomes) == sorted(TrialOutcome)
    assert len({group.letter for group in GROUPS}) == len({group.color for group in GROUPS}) == len(GROUPS)


def test_those_who_do_not_see_it_are_told_the_same() -> None:
    root = ElementTree.fromstring(svg(draw(BY_NAME["accuracy"], dipped(), "e")))
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "title description"
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert title.text == "Accuracy: right answers of those that were given: e"
    assert description is not None
    assert "bug, 10,000 tokens, 40–60 % of the code: 0 %, 0–11 %, n 30" in (description.text or "")


@given(st.floats(0, 1))
def test_text_can_be_read_on_every_shade(share: float) -> None:
    assert contrast(ink_on(shade(share)), shade(share)) >= 4.5


def test_the_scale_is_told_apart_by_brightness_alone() -> None:
    steps = [contrast("#000000", shade(at / 20)) for at in range(21)]
    assert steps == sorted(steps)
    assert contrast(PAPER, FAINT) >= 4.5
    assert (shade(-1), shade(2)) == (shade(0), shade(1))


HOSTILE = st.text(st.characters(), max_size=60) | st.sampled_from(
    ["</text><script>alert(1)</script>", "]]>&amp;", "\x1b[31mred", "\ud800", "\x00", "‮evil", "$\\frac{1}{2}$"]
)


@given(HOSTILE)
def test_text_from_outside_is_text(about: str) -> None:
    found = block_of([trial(0.5, 1)])
    document = svg(draw(BY_NAME["accuracy"], found, about))
    document.encode()
    root = ElementTree.fromstring(document)
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert tags <= {"svg", "title", "desc", "defs", "pattern", "rect", "g", "text"}
    assert "http" not in document.replace("http://www.w3.org/2000/svg", "").replace(about, "")


def test_a_run_has_four_pictures_for_each_endpoint_and_step() -> None:
    found = dipped(2)
    names = [f"needle-{map_.name}" for map_ in MAPS]
    assert [*svgs(summary(None, found))] == [f"{name}.svg" for name in names]
    assert [*svgs(summary(found, found))] == [
        f"{name.replace('needle', f'needle-{at}')}.svg" for at in (1, 2) for name in names
    ]
    assert "e1 (m), run abc of 2026-01-05" in svgs(summary(None, found))["needle-ttft.svg"]
    assert "e0 (m), step 1, run abc" in svgs(summary(found, steps=2))["needle-2-ttft.svg"]
    assert svgs(summary(None)) == {}


def test_nothing_lies_outside_the_picture() -> None:
    for map_ in MAPS:
        drawing = draw(map_, dipped(2), "e")
        for shape in drawing.shapes:
            assert 0 <= shape.y <= drawing.height
            width = shape.width if isinstance(shape, Box) else 0
            assert 0 <= shape.x <= shape.x + width <= drawing.width


@pytest.mark.long
def test_png() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    found = pngs(summary(block_of([trial(0.5, 1), trial(0.1, 2)])))
    assert [*found] == [f"needle-{map_.name}.png" for map_ in MAPS]
    assert all(picture.startswith(b"\x89PNG\r\n\x1a\n") for picture in found.values())
    odd = draw(BY_NAME["accuracy"], block_of([trial(0.5, 1)]), "$\\frac{1$ \x1b[31m")
    assert png(odd).startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named() -> None:
    program = (
        "import sys; sys.modules['matplotlib.figure'] = None\n"
        "from latbench.model.errors import UserError\n"
        "from latbench.report.canvas import Drawing\n"
        "from latbench.report.png import png\n"
        "try: png(Drawing(1, 1, '', '', ()))\n"
        "except UserError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "PNG needs matplotlib: pip install 'latbench[png]', or use the SVG files, which need nothing\n"


def test_what_had_no_trials_is_blank() -> None:
    assert BY_NAME["failures"].face({"outcomes": {}}, {}).small == "no trials"

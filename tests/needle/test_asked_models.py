"""The five simulated models, and one more, over real sockets: what each must come to (needle.md, section 9)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest
from asked_models import Asked, ask, judged, made, table, write_answers
from harness import FAST, Served, simulated
from scipy import stats

from latbench.analysis.needle.findings import DIP, Findings
from latbench.needle.grid import PRESETS, STRATA, Grid
from latbench.needle.trial import Control, Kind, Trial

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

QUICK = replace(FAST, ttft_ns=0, itl_ns=0, jitter=0.0)
LADDER = Grid(kinds=tuple(Kind), lengths=(4_000,), blocks=2)
POSITION = msgspec.structs.replace(PRESETS["position"], canaries=10)


@dataclass(frozen=True)
class Endpoint:
    """Trials of one grid, and a simulated endpoint that has their answers."""

    served: Served
    trials: list[Trial]

    def ask(self, **options: str) -> list[Asked]:
        return ask(self.served, self.trials, **options)

    def judged(self, **options: str) -> Findings:
        return judged(self.ask(**options))


@contextmanager
def knowing(folder: Path, grid: Grid) -> Iterator[Endpoint]:
    trials = made(grid)
    path = write_answers(folder / "answers.jsonl", trials)
    with simulated(replace(QUICK, needle=str(path))) as served:
        yield Endpoint(served, trials)


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with knowing(tmp_path_factory.mktemp("ladder"), LADDER) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def position(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with knowing(tmp_path_factory.mktemp("position"), POSITION) as endpoint:
        yield endpoint


def test_perfect_scores_everything_on_every_rung_and_depth(ladder: Endpoint) -> None:
    asked = ladder.ask(needle_model="perfect")
    assert [one.sample.text for one in asked if one.row.outcome != "correct"] == []
    found = judged(asked)
    assert {one.kind for one in found.lengths} == set(Kind)
    for one in found.lengths:
        assert [cell.share.accuracy for cell in one.cells] == [1.0] * len(STRATA)
    assert found.absent is not None
    assert found.absent.present == 0
    assert found.degenerate is None


def test_perfect_with_the_preset_has_no_shape(position: Endpoint) -> None:
    found = position.judged(needle_model="perfect")
    assert [one.share.accuracy for one in found.lengths] == [1.0, 1.0]
    assert [one.depth.shapes for one in found.lengths] == [(), ()]
    assert all(one.depth.powered for one in found.lengths)
    assert [one.cut for one in found.truncation if one.length == 10_000] == [None]
    assert [base.share.accuracy for base in found.bases] == [1.0, 1.0]


def test_random_scores_chance(position: Endpoint) -> None:
    found = position.judged(needle_model="random")
    for one in found.lengths:
        p = stats.binomtest(one.share.correct, one.share.answered, one.share.chance).pvalue
        assert p > 0.01, one.kind
        assert one.share.at_chance
        assert one.depth.shapes == ()
    assert found.absent is not None
    assert found.absent.answers_regardless


def test_blind_in_the_middle_is_a_significant_dip(position: Endpoint) -> None:
    found = position.judged(needle_model="blind")
    for one in found.lengths:
        assert one.depth.shapes == (DIP,)
        assert one.depth.p_dip is not None
        assert one.depth.p_dip < 0.001
        assert one.cells[2].outcomes["false_absent"] == 50  # strata are ±10 points: the third is the blind part
        assert sum(cell.share.correct for cell in one.cells) >= 195  # a needle of several lines may reach into it


def test_a_middle_that_is_only_worse_is_found_too(position: Endpoint) -> None:
    found = position.judged(needle_accuracy="0.95,40-60%=0.6")
    assert [one.depth.shapes for one in found.lengths] == [(DIP,), (DIP,)]


def test_a_cut_head_is_a_verdict_and_no_dip(position: Endpoint) -> None:
    found = position.judged(needle_model="head-truncated", needle_keep="7000")
    assert [one.cut for one in found.truncation if one.length == 10_000] == ["head"]
    assert {one.depth.silent for one in found.lengths} == {"truncated"}
    assert {one.depth.shapes for one in found.lengths} == {()}
    assert {one.share.answered for one in found.lengths} == {0}
    assert all(one.outcomes == {"truncated_prompt": 250} for one in found.lengths)


def test_a_cut_that_the_usage_hides_is_found_by_the_canaries(position: Endpoint) -> None:
    found = position.judged(needle_model="head-truncated", needle_keep="7000", needle_silent="true")
    assert [one.cut for one in found.truncation if one.length == 10_000] == ["head"]
    assert [one.canaries for one in found.truncation if one.length == 10_000] == [((0, 10), (10, 10))]
    assert {one.depth.silent for one in found.lengths} == {"truncated"}
    assert {one.depth.shapes for one in found.lengths} == {()}


def test_a_prefix_cache_trips_the_control_of_ttft(position: Endpoint) -> None:
    """Reading 10K tokens takes half a second here: what a busy client adds is small beside it."""
    found = position.judged(needle_model="prefix-cache", needle_silent="true", prefill_rate="20000")
    assert found.timing.n == 500
    assert found.timing.cached_prefix
    assert found.timing.change is not None
    assert found.timing.change < -0.4
    assert [one.share.accuracy for one in found.lengths] == [1.0, 1.0]


def test_a_cache_that_the_usage_tells_of_leaves_no_ttft_to_judge(position: Endpoint) -> None:
    found = table(position.ask(needle_model="prefix-cache")).controls(Control.NONE)
    counts = found.ttft_counts
    assert not counts[found.depth > 0.2].any()
    assert found.correct.all()


def test_the_wrong_format_is_wrong_and_said_to_be_that(ladder: Endpoint) -> None:
    asked = ladder.ask(needle_model="bad-format")
    assert {one.row.outcome for one in asked} == {"format_error"}
    found = judged(asked)
    assert {one.share.accuracy for one in found.lengths} == {0.0}
    assert found.degenerate is not None

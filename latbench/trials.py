"""Needle trials on their way into a run: which ones, how many a budget is enough for, and the book they are made into.

Recipes are cheap and come first, so that what a run would send is known before a single prompt exists. The prompts are
then made before the load starts, by processes of their own, into a file: no process ever holds more than a few.
"""

import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from pathlib import Path

import msgspec

from latbench.model.book import BookWriter
from latbench.model.errors import UserError
from latbench.model.lifeline import die_with_parent
from latbench.model.request import Prompt
from latbench.needle.build import Builder
from latbench.needle.folder import Reading, read_folder
from latbench.needle.grid import grid_of, rounds
from latbench.needle.harvest import stdlib
from latbench.needle.haystack import Generated, Haystack
from latbench.needle.pages import page_of
from latbench.needle.replies import encoded
from latbench.needle.trial import Control, Planned, Recipe, Trial
from latbench.plan.budget import Limits, Price, worst_case
from latbench.scenario.loader import Loaded
from latbench.scenario.needle import GENERATED, STDLIB, NeedleSettings
from latbench.scenario.prompts import PromptSet

ANSWERS = "answers.jsonl"
TASK = "needle"
_ALONE_TOKENS = 1_000_000  # fewer are made sooner than other processes are there
_MOST_PROCESSES = 4
_USAGE_MARGIN = 1.03  # an endpoint may count a little more than we do


class Numbered(msgspec.Struct, frozen=True):
    """A recipe with its place in the order of sending, and its round."""

    number: int
    round: int
    recipe: Recipe


@dataclass(frozen=True)
class Source:
    """Where filler comes from; every process reads it for itself. `folder` is absolute, None for what is no folder."""

    name: str
    folder: Path | None
    strip_comments: bool

    def haystack(self) -> Haystack:
        """Read it. Raises UserError where that cannot be done."""
        if self.folder is not None:
            return self.reading().haystack
        if self.name == STDLIB:
            return stdlib(strip_comments=self.strip_comments)
        return Generated(strip_comments=self.strip_comments)

    def reading(self) -> Reading:
        """A folder, with what was left out of it."""
        assert self.folder is not None
        return read_folder(self.folder, strip_comments=self.strip_comments)


@dataclass(frozen=True)
class NeedleRun:
    """The trials of a run, made: `planned` in the order in which they are sent, their prompts in `book`.

    `left` says why not all of them are sent, if so. `resumes` is the run whose unfinished trials these are.
    """

    run_id: str
    book: Path
    source: Source
    planned: list[Planned]
    left: str
    resumes: str | None

    @property
    def answers(self) -> Path:
        """What the simulated endpoint may answer."""
        return self.book / ANSWERS


def source_of(loaded: Loaded) -> Source:
    """The haystack that a scenario names. A folder is relative to it, that of a flag to the working directory."""
    settings = _settings(loaded)
    if settings.haystack in (GENERATED, STDLIB):
        return Source(settings.haystack, None, settings.strip_comments)
    by_flag = ("needle", "haystack") in loaded.from_flags
    base = Path.cwd() if by_flag else loaded.source_path.parent
    folder = (base / settings.haystack).absolute()
    if not folder.is_dir():
        raise UserError(
            f"{loaded.where('needle', 'haystack')}: {settings.haystack}: no such folder; write generated, stdlib, or a"
            " folder with Python code in it"
        )
    return Source("folder", folder, settings.strip_comments)


def recipes_of(loaded: Loaded, run_id: str) -> list[Numbered]:
    """All trials of a scenario in the order in which they are sent."""
    grid = grid_of(_settings(loaded), loaded.scenario.seed)
    found: list[Numbered] = []
    for one in rounds(grid, run_id):
        found += [Numbered(len(found) + at, one.number, recipe) for at, recipe in enumerate(one.recipes)]
    return found


def prompts_of(trials: Sequence[Numbered], settings: NeedleSettings) -> PromptSet:
    """Trials as what a run draws from: without their messages, which stand in the book."""
    prompts = tuple(_prompt(one.recipe) for one in trials)
    identity = sha256("\n".join(prompt.id for prompt in prompts).encode()).hexdigest()
    return PromptSet(f"needle {settings.preset}", "", identity, prompts, {TASK: 1.0})


def _prompt(recipe: Recipe) -> Prompt:
    tags = (recipe.kind.value, *(() if recipe.control == Control.NONE else (recipe.control.value,)))
    return Prompt(recipe.trial, TASK, "python", (), recipe.target_tokens, recipe.prompt_sha256, tags)


def _settings(loaded: Loaded) -> NeedleSettings:
    settings = loaded.scenario.needle
    assert settings is not None
    return settings


# --- what a budget is enough for --------------------------------------------------------------------------------------


def within_budget(loaded: Loaded, limits: Limits, trials: list[Numbered]) -> tuple[list[Numbered], str]:
    """The whole rounds that a budget is surely enough for, and, where these are not all, why.

    What is begun is a whole round or nothing, so that depths stay balanced. Raises UserError where it is not enough for
    one.
    """
    kept: list[Numbered] = []
    times = len(loaded.scenario.steps())
    total = len({one.round for one in trials})
    for number, (_, group) in enumerate(groupby(trials, key=lambda one: one.round)):
        more = [*kept, *group]
        short = _short_of(loaded, limits, more, times)
        if short and not kept:
            raise UserError(
                f"{loaded.where('budget')}: not enough for one round of {len(more)} trials, which may come to"
                f" {short}; raise it"
            )
        if short:
            return (
                kept,
                f"enough for {number} of {total} rounds, {len(kept)} of {len(trials)} trials:"
                f" one round more may come to {short}",
            )
        kept = more
    return kept, ""


def _short_of(loaded: Loaded, limits: Limits, trials: Sequence[Numbered], times: int) -> str:
    """Which limit so many trials might exceed, in words; empty if none.

    A request is reserved at its worst before it is sent, each byte as a token: there must be room for the last one.
    """
    most = loaded.scenario.output.max_tokens
    inputs = round(sum(one.recipe.target_tokens for one in trials) * _USAGE_MARGIN)
    longest_bytes = 6 * max(one.recipe.target_tokens for one in trials)
    each = [Price.of(loaded.prices().get(endpoint.name)) for endpoint in loaded.scenario.endpoints]
    requests = len(trials) * times * len(each)
    if limits.requests is not None and requests > limits.requests:
        return f"{requests:,} requests"
    tokens = (inputs + len(trials) * most) * times * len(each) + worst_case(None, longest_bytes, most).tokens
    if limits.tokens is not None and tokens > limits.tokens:
        return f"{tokens:,} tokens"
    nano = sum(price.nano_usd(inputs, len(trials) * most) for price in each if price is not None) * times
    nano += max(worst_case(price, longest_bytes, most).nano_usd for price in each)
    if limits.nano_usd is not None and nano > limits.nano_usd:
        return f"{nano / 1e9:,.3f} USD"
    return ""


class Again:
    """Trials of a stored run made again, each when it is asked for. `folder` is where its own code came from."""

    def __init__(self, planned: Sequence[Planned], folder: str | None) -> None:
        self._recipes = {one.recipe.trial: one.recipe for one in planned}
        self._folder = None if folder is None else Path(folder)
        self._builder: Builder | None = None

    def trial(self, prompt_id: str) -> Trial | None:
        """The trial, byte for byte as it was; None for what was none. Raises UserError where that cannot be done."""
        recipe = self._recipes.get(prompt_id)
        if recipe is None:
            return None
        if self._builder is None:
            self._builder = Builder(Source(recipe.source, self._folder, recipe.strip_comments).haystack())
        return self._builder.build(recipe)


# --- making them ------------------------------------------------------------------------------------------------------


class _Made(msgspec.Struct, frozen=True):
    """A trial as a process hands it back."""

    planned: Planned
    messages: bytes
    notes: bytes
    replies: bytes


@contextmanager
def made(
    run_id: str,
    source: Source,
    trials: Sequence[Numbered],
    *,
    left: str = "",
    resumes: str | None = None,
    watch: Callable[[int], None] = lambda _: None,
) -> Iterator[NeedleRun]:
    """The trials in a book that is there as long as the context is. `watch` is told how many are done.

    Raises UserError for the first trial that cannot be made.
    """
    folder = Path(tempfile.mkdtemp(prefix="latbench-needle-"))
    try:
        writer = BookWriter(folder, len(trials))
        place = {one.number: at for at, one in enumerate(trials)}
        planned: dict[int, Planned] = {}
        with (folder / ANSWERS).open("wb") as answers:
            for one in _build(source, trials):
                writer.add(place[one.planned.number], one.messages, one.notes)
                answers.write(one.replies)
                planned[one.planned.number] = one.planned
                watch(len(planned))
        writer.close()
        yield NeedleRun(run_id, folder, source, [planned[one.number] for one in trials], left, resumes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _build(source: Source, trials: Sequence[Numbered]) -> Iterator[_Made]:
    """All of them, those of a block together: what they share is made once."""
    by_block = sorted(trials, key=lambda one: (one.recipe.block, one.number))
    blocks = [list(group) for _, group in groupby(by_block, key=lambda one: one.recipe.block)]
    processes = min(_MOST_PROCESSES, os.cpu_count() or 1, len(blocks))
    if processes < 2 or sum(one.recipe.target_tokens for one in trials) < _ALONE_TOKENS:
        builder = Builder(source.haystack())
        for block in blocks:
            yield from _made_of(builder, block)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _begin, (source, os.getpid())) as pool:
        try:
            for found in pool.map(_make, blocks):
                yield from found
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_builder: Builder | None = None


def _begin(source: Source, parent: int) -> None:
    """In a process of the pool: Ctrl-C is the parent's business."""
    global _builder
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _builder = Builder(source.haystack())


def _make(block: list[Numbered]) -> list[_Made]:
    assert _builder is not None
    return list(_made_of(_builder, block))


def _made_of(builder: Builder, block: Iterable[Numbered]) -> Iterator[_Made]:
    for one in block:
        trial = builder.build(one.recipe)
        messages, notes = page_of(trial)
        planned = Planned(
            number=one.number,
            round=one.round,
            recipe=trial.recipe,
            depth=trial.depth,
            tokens=trial.tokens,
            chance=trial.key.chance,
            mutation=trial.mutation,
        )
        yield _Made(planned, messages, notes, encoded(trial))

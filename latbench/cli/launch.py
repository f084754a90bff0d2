"""From a plan to a result: children first, then Locust, then the run. What `run` and `needle` have in common.

Children start before Locust is imported: that import takes a second, and patches the standard library. Needle trials
are made before either, because the prompts are then in a file and this process stays small.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from latbench.cli.exporting import Exporter
from latbench.cli.imports import entry_points_read_once, importing
from latbench.cli.plan import estimate_of, limits_of, promises_of
from latbench.cli.progress import Progress
from latbench.cluster.children import end, start_engine
from latbench.cluster.handshake import is_loopback
from latbench.model.errors import UserError
from latbench.model.request import Endpoint
from latbench.model.run import new_id
from latbench.plan.estimate import price_line
from latbench.report import plan as plan_report
from latbench.scenario.loader import Loaded
from latbench.scenario.prompts import PromptSet
from latbench.simulated import SimulatedModel, resolve_sim
from latbench.trials import (
    NeedleRun,
    Numbered,
    Source,
    made,
    prompts_of,
    recipes_of,
    source_of,
    within_budget,
)

if TYPE_CHECKING:
    from latbench.run import Result

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
_SHOW_EVERY = 25


@dataclass(frozen=True)
class Setup:
    """How a run is carried out and kept, as the flags say it."""

    workers: int
    store: Path
    out: Path | None
    window: str | None
    quiet: bool
    abort_early: bool = True
    abort_on_loss: bool = False
    join: int = 0
    listen: tuple[str, int] | None = None
    secret: bytes | None = None
    exporter: Exporter | None = None
    null_test: bool = True


def launch(
    setup: Setup, loaded: Loaded, prompts: PromptSet, needle: NeedleRun | None = None, sim: str = ""
) -> "Result":
    """Run a scenario. `sim` is the model that the simulated endpoint is for needle trials, where it is started."""
    steps = loaded.steps(prompts)
    engine = start_engine() if setup.workers == 1 and not setup.join else None
    simulated: subprocess.Popen[bytes] | None = None
    try:
        model = None if needle is None else SimulatedModel(needle.answers, sim)
        endpoints, simulated = resolve_sim(loaded.endpoints(), model)
        # Locust takes a second to import and patches the standard library: only now, while the children start.
        # An interrupt in the middle of that would leave half a library behind: it waits until the import is over.
        signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
        try:
            with importing(), entry_points_read_once():
                from latbench.run import Plan, measure
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)

        plan = Plan(
            loaded,
            prompts,
            endpoints,
            setup.workers,
            setup.store,
            setup.out,
            setup.window,
            setup.abort_early,
            setup.listen,
            setup.join,
            setup.secret,
            setup.abort_on_loss,
            needle=needle,
            null_test=setup.null_test,
        )
        exporter = setup.exporter
        with Progress(steps, quiet=setup.quiet) as progress:
            if exporter is not None:
                exporter.start()
            watch, told = progress.show if progress.shown else None, None if setup.quiet else say
            return measure(plan, engine, watch, told, None if exporter is None else exporter.observed)
    finally:
        if engine is not None:
            engine.end(1.0)
        if simulated is not None:
            simulated.terminate()
            end(simulated, 2.0)


def say(words: str) -> None:
    """Tell whoever waits what is happening."""
    click.echo(f"latbench: {words}", err=True)


# --- needle trials ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trials:
    """What a needle run is to send: `kept` of all its trials, since the budget is enough for no more (`left`).

    `resumes` is the run whose unfinished trials they are.
    """

    kept: list[Numbered]
    run_id: str
    left: str = ""
    resumes: str | None = None


def trials_of(loaded: Loaded) -> Trials:
    """The trials of a scenario. Raises UserError where the budget is not enough for one round of them."""
    run_id = new_id()
    kept, left = within_budget(loaded, limits_of(loaded), recipes_of(loaded, run_id))
    return Trials(kept, run_id, left)


def launch_trials(setup: Setup, loaded: Loaded, trials: Trials, *, send_code: bool = False, sim: str = "") -> "Result":
    """Say what will be sent and what it can show, make the trials, and run them."""
    settings = loaded.scenario.needle
    assert settings is not None
    if setup.join:
        raise UserError("--join: needle trials are sent from this machine only: use --workers")
    source = source_of(loaded)
    prompts = prompts_of(trials.kept, settings)
    if not setup.quiet:
        click.echo(f"latbench: {price_line(estimate_of(loaded, prompts))}", err=True)
        if trials.left:
            say(f"the budget is {trials.left}; the rest can be sent later, with --resume")
        for line in plan_report.promises(promises_of(loaded, trials.kept)):
            say(line)
    _say_what_leaves(source, loaded.endpoints(), allowed=send_code)
    with _made(setup, source, trials) as needle:
        return launch(setup, loaded, prompts, needle, sim)


@contextmanager
def _made(setup: Setup, source: Source, trials: Trials) -> Iterator[NeedleRun]:
    """The trials, made; how far that is, is said on a terminal."""
    total = len(trials.kept)
    shown = not setup.quiet and sys.stderr.isatty()

    def watch(done: int) -> None:
        if shown and (done % _SHOW_EVERY == 0 or done == total):
            click.echo(f"\rlatbench: {done} of {total} trials made", err=True, nl=done == total)

    with made(trials.run_id, source, trials.kept, left=trials.left, resumes=trials.resumes, watch=watch) as needle:
        yield needle


def _say_what_leaves(source: Source, endpoints: list[Endpoint], *, allowed: bool) -> None:
    """A folder of the user's own: how much of it goes where. Raises UserError where nobody has agreed to that."""
    if source.folder is None:
        return
    reading = source.reading()
    hosts = sorted({host for one in endpoints if not _stays(host := urlsplit(one.base_url).hostname or one.base_url)})
    left = sum(reading.skipped.values())
    skipped = f"; {left} files are left out ({', '.join(f'{n} {why}' for why, n in reading.skipped.items())})"
    what = (
        f"up to {reading.bytes:,} bytes of code from {reading.haystack.files} files below {source.folder}"
        f"{skipped if left else ''}"
    )
    if hosts and not allowed:
        raise UserError(
            f"{what} would leave this machine for {', '.join(hosts)}: `latbench needle --send-code` agrees to that"
        )
    say(f"{what}: sent to {', '.join(hosts) or 'this machine only'}")


def _stays(host: str) -> bool:
    return host == "sim" or is_loopback(host)

"""`latbench run`: from flags to a plan, and from a result to the terminal.

Children start before Locust is imported: that import takes a second, and patches the standard library.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import click

from latbench.cli.exporting import Address, Exporter, export_options
from latbench.cli.options import load_options
from latbench.cli.plan import check_budget, estimate_of
from latbench.cli.progress import Progress
from latbench.cli.report import show
from latbench.cluster.children import end, start_engine
from latbench.cluster.handshake import SECRET_ENV, SHORTEST_SECRET, is_loopback, secret_from
from latbench.model.errors import ExitCode, UserError
from latbench.plan.estimate import price_line
from latbench.providers.registry import APIS
from latbench.scenario.check import load_whole
from latbench.scenario.loader import Flags, find_scenario
from latbench.simulated import resolve_sim

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


def _labels(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    labels = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE")
        labels[key] = text
    return labels


def _address(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, int] | None:
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise click.BadParameter(f"{value!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


@click.command()
@click.argument("scenario", default="quickstart")
@click.option("--url", help="Measure this base URL instead of the scenario's endpoints, as https://host/v1.")
@click.option("--model", help="The model to ask for.")
@click.option("--api", help=f"The API it speaks: {', '.join(APIS)}. With --url the default is openai-chat.")
@click.option("--api-key-env", metavar="NAME", help="The environment variable that holds the key.")
@load_options
@click.option("--workers", type=click.IntRange(0, 64), default=1, show_default=True, help="Local worker processes.")
@click.option("--join", type=click.IntRange(0), default=0, help="Wait for this many `latbench worker`s from elsewhere.")
@click.option("--listen", metavar="HOST:PORT", callback=_address, help="Where workers from elsewhere join.")
@click.option(
    "--on-worker-loss",
    type=click.Choice(["continue", "abort"]),
    default="continue",
    show_default=True,
    help="When a worker is lost: the others take over, or the run stops.",
)
@click.option("--window", metavar="NAME", help="Label the run with a time window, as peak.")
@click.option(
    *("--label", "labels"),
    metavar="KEY=VALUE",
    multiple=True,
    envvar="LATBENCH_RUN_LABEL",
    callback=_labels,
    help="Label the run.",
)
@click.option("--store", type=click.Path(path_type=Path), default="latbench.db", show_default=True, help="The store.")
@click.option("--out", type=click.Path(path_type=Path), help="The run directory itself (absent or empty).")
@click.option(
    *("--json", "as_json"),
    is_flag=True,
    envvar="LATBENCH_RUN_JSON",
    help="Print summary.json and nothing else on standard output.",
)
@export_options
@click.option("--no-abort", is_flag=True, help="Do not stop an endpoint for its share of errors.")
@click.option("--quiet", is_flag=True, help="No progress and no notices.")
def run(
    scenario: str,
    labels: dict[str, str],
    workers: int,
    join: int,
    listen: tuple[str, int] | None,
    on_worker_loss: str,
    window: str | None,
    store: Path,
    out: Path | None,
    as_json: bool,
    no_abort: bool,
    quiet: bool,
    metrics_addr: Address | None,
    metrics_keep: float,
    pushgateway: str | None,
    remote_write: str | None,
    **flags: str | int | Path | None,
) -> None:
    """Measure the endpoints of SCENARIO, a file or a name (default: quickstart, which starts a simulated endpoint)."""
    if join and listen is None:
        raise UserError("--join: workers from elsewhere need an address to join: add --listen HOST:PORT")
    if workers + join < 1:
        raise UserError("--workers 0: nobody would send anything; add --join N or leave it out")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the run has handlers of its own
    secret = secret_from(os.environ)
    if listen is not None and secret is None and not is_loopback(listen[0]):
        raise UserError(
            f"--listen {listen[0]}:{listen[1]}: others can reach that port: set {SECRET_ENV} to a secret of at least"
            f" {SHORTEST_SECRET} characters, here and where the workers run"
        )
    if listen is not None and not quiet:
        where = f"`latbench worker --master {listen[0]}:{listen[1]}`"
        click.echo(f"latbench: {join} workers are to join with {where}; they are awaited for ten minutes", err=True)
    say = None if quiet else _say
    exporter = Exporter(metrics_addr, metrics_keep, pushgateway, remote_write, say)
    given = Flags(labels=labels, **flags)  # type: ignore[arg-type]
    loaded, prompts = load_whole(find_scenario(scenario, Path.cwd()), given, os.environ)
    check_budget(loaded, prompts)
    steps = loaded.steps(prompts)
    if not quiet:
        click.echo(f"latbench: {price_line(estimate_of(loaded, prompts))}", err=True)
    engine = start_engine() if workers == 1 and not join else None
    sim: subprocess.Popen[bytes] | None = None
    try:
        endpoints, sim = resolve_sim(loaded.endpoints())
        # Locust takes a second to import and patches the standard library: only now, while the children start.
        # An interrupt in the middle of that would leave half a library behind: it waits until the import is over.
        signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
        try:
            from latbench.run import Plan, measure
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)

        abort = on_worker_loss == "abort"
        plan = Plan(loaded, prompts, endpoints, workers, store, out, window, not no_abort, listen, join, secret, abort)
        with Progress(steps, quiet=quiet) as progress:
            exporter.start()
            result = measure(plan, engine, progress.show if progress.shown else None, say, exporter.observed)
    finally:
        if engine is not None:
            engine.end(1.0)
        if sim is not None:
            sim.terminate()
            end(sim, 2.0)
    show(result.summary, (f"store {store}", f"run directory {result.directory}"), as_json=as_json)
    sys.stdout.flush()
    exporter.finish(wait=result.exit_code != ExitCode.INTERRUPTED)
    sys.exit(result.exit_code)


def _say(words: str) -> None:
    """Tell whoever watches the run what happens now."""
    click.echo(f"latbench: {words}", err=True)

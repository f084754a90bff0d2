"""`latbench runs`: what is in the store, and what a killed run left to be put together."""

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from latbench.cli.report import show, store_option
from latbench.model.errors import UserError
from latbench.model.run import RunRecord
from latbench.model.spool import spool_root
from latbench.recovery import recover
from latbench.report import json as json_report
from latbench.report.text import clean
from latbench.results import killed, running_process, started_here
from latbench.store.sqlite import Store


@click.group()
def runs() -> None:
    """List, show, delete and recover the runs in the store."""


@runs.command("list")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, the newest first.")
@click.option("--json", "as_json", is_flag=True, envvar="LATBENCH_RUNS_LIST_JSON", help="As JSON.")
@store_option
def list_runs(limit: int, as_json: bool, store: Path) -> None:
    """List runs, the newest first."""
    with Store(store, must_exist=True) as opened:
        found = opened.list_runs(limit)
    if as_json:
        json_report.render({"runs": [_brief(record) for record in found]}, sys.stdout)
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("run", "started (UTC)", "name", "state", "exit", "requests", "endpoints"):
        table.add_column(heading, overflow="fold")
    for record in found:
        brief = _brief(record)
        state = "killed" if brief["killed"] else "running?" if brief["killed"] is None else record.state
        planned = "–" if record.state == "running" else str(record.planned)  # it is summed up at the end
        cells = (*(brief[key] for key in ("id", "started_at", "name")), state, brief["exit_code"], planned)
        # As text: in a plain string rich would take what stands in brackets for its own, and names are not ours.
        table.add_row(*(Text(clean(str(cell))) for cell in (*cells, ", ".join(record.endpoints))))
    Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 100).print(table)
    for record in found:
        if killed(record):
            advice = f"`latbench runs recover {record.id}` brings it to an end"
            click.echo(f"latbench: run {record.id} was killed and never ended: {advice}", err=True)
        elif killed(record) is None:
            _say_elsewhere(record)


def _brief(record: RunRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "started_at": record.started_at,
        "name": record.name,
        "state": record.state,
        "killed": killed(record),
        "exit_code": "–" if record.exit_code is None else record.exit_code,
        "planned": record.planned,
        "window": record.window,
        "labels": record.labels,
        "endpoints": list(record.endpoints),
    }


@runs.command("show")
@click.argument("run", default="latest")
@store_option
def show_run(run: str, store: Path) -> None:
    """Show all that is stored of RUN besides its samples, as JSON: scenario, provenance, steps, notes."""
    with Store(store, must_exist=True) as opened:
        json_report.render(msgspec.to_builtins(opened.load_run(run)), sys.stdout)


@runs.command("rm")
@click.argument("names", metavar="RUN...", nargs=-1, required=True)
@store_option
def remove_runs(names: tuple[str, ...], store: Path) -> None:
    """Delete each RUN from the store, with its samples and what its engines had written down. There is no way back.

    Run directories are left: they hold what was made to be passed on. Exit code 2, and nothing is deleted, where one
    RUN is not there or is still going on.
    """
    with Store(store, must_exist=True) as opened:
        found = [opened.load_run(name) for name in names]
        for record in found:
            if (process := running_process(record)) is not None:
                raise UserError(f"run {record.id} is still going on (process {process}); stop it first")
        for record in {record.id: record for record in found}.values():
            opened.remove_run(record.id)
            shutil.rmtree(spool_root(os.environ) / record.id, ignore_errors=True)
            left = "" if record.directory is None else f"; its run directory {clean(record.directory)} is left"
            click.echo(f"run {record.id} ({clean(record.name)}) is deleted{left}")


@runs.command("recover")
@click.argument("run", required=False)
@click.option(
    *("--spool", "spools"),
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    metavar="DIR",
    help="Spools copied from another machine; may be repeated.",
)
@store_option
def recover_runs(run: str | None, spools: tuple[Path, ...], store: Path) -> None:
    """Put RUN together from the store and the spools of its engines, and print its report.

    Without RUN: every run of this machine that was killed. Nothing is deleted but the spools of this machine that are
    in the store now.

    Exit code 0 where the runs are brought to an end or there was nothing to recover, be the figures invalid or not (the
    code of a run is in its report and in `latbench runs list`); 2 where RUN is not there or is still going on; 1 where
    the disk or the store fails.
    """
    root = spool_root(os.environ)
    with Store(store, must_exist=True) as opened:
        found = _killed(opened) if run is None else [opened.load_run(run)]
        if not found:
            click.echo(f"no run in {store} was killed: nothing to recover")
        for record in found:
            recovered = recover(opened, record, [root, *spools])
            for why in recovered.left:
                click.echo(f"latbench: {clean(why)}", err=True)
            if recovered.changed:
                directory = () if record.directory is None else (f"run directory {record.directory}",)
                show(recovered.summary, (f"store {store}", *directory), as_json=False)
            else:
                click.echo(f"run {record.id} is {record.state}, and no spool knows more of it: nothing to recover")
            for path in recovered.merged:
                if path.parent == root / record.id:
                    path.unlink(missing_ok=True)
            with suppress(OSError):  # no spools here, or not only those
                (root / record.id).rmdir()


def _killed(store: Store) -> list[RunRecord]:
    """The runs that nobody is going to end. Whether those of other machines are going on cannot be seen from here."""
    running = [record for record in store.list_runs() if record.state == "running"]
    for record in running:
        if not started_here(record):
            _say_elsewhere(record)
    return [record for record in running if killed(record)]


def _say_elsewhere(record: RunRecord) -> None:
    name = clean(record.host.get("name", "another machine"))
    why = f"if it was killed there: latbench runs recover {record.id}"
    click.echo(f"latbench: run {record.id} was started on {name}; {why}", err=True)

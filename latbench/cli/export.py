"""`latbench export`: runs of the store in the formats of other programs."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from latbench.cli.exporting import duration
from latbench.cli.report import store_option
from latbench.export.openmetrics import write
from latbench.history import moments
from latbench.metrics.series import Snapshot
from latbench.model.errors import UserError
from latbench.model.run import RunRecord
from latbench.store.sqlite import Store


@click.group()
def export() -> None:
    """Write runs of the store in the formats of other programs."""


@export.command("openmetrics")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("--every", default="15s", show_default=True, callback=duration, help="The time between two points.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file, not to the output.")
@store_option
def openmetrics(runs: tuple[str, ...], every: float, out: Path | None, store: Path) -> None:
    """Write each RUN (all that are over, if none is named) as OpenMetrics with the times at which it happened.

    `promtool tsdb create-blocks-from openmetrics FILE DIR` makes blocks of it, which a Prometheus server reads when
    they lie in its data folder.
    """
    if every <= 0:
        raise click.BadParameter("must be longer than 0", param_hint="--every")
    with Store(store, must_exist=True) as opened:
        wanted = [opened.load_run(run) for run in runs] if runs else opened.list_runs()
        found: list[tuple[float, Snapshot]] = []
        for record in _one_at_a_time(wanted):
            found += moments(opened, record, every)
    found.sort(key=lambda moment: moment[0])
    if out is None:
        write(found, sys.stdout)
        return
    try:
        with out.open("w", encoding="utf-8") as file:
            write(found, file)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror}); name another file") from error


def _one_at_a_time(records: list[RunRecord]) -> Iterator[RunRecord]:
    """Runs that are over, by their start. Of two at once, the later one would spoil the series that both have."""
    before, until_s = "", 0.0
    for record in sorted({record.id: record for record in records}.values(), key=lambda record: record.started_at):
        if record.state == "running":
            click.echo(f"latbench: run {record.id} is not over: left out", err=True)
        elif record.started_s < until_s:
            advice = "left out; write it by itself"
            click.echo(f"latbench: run {record.id} began while {before} was going on: {advice}", err=True)
        else:
            before, until_s = record.id, record.started_s + (record.duration_s or 0.0)
            yield record

"""`latbench runs`: what is in the store."""

import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from latbench.cli.report import store_option
from latbench.model.run import RunRecord
from latbench.report import json as json_report
from latbench.report.text import clean
from latbench.store.sqlite import Store


@click.group()
def runs() -> None:
    """List and show the runs in the store."""


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
        table.add_row(*(clean(str(brief[key])) for key in ("id", "started_at", "name", "state", "exit_code")),
                      str(record.planned), clean(", ".join(record.endpoints)))  # fmt: skip
    Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 100).print(table)


def _brief(record: RunRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "started_at": record.started_at,
        "name": record.name,
        "state": record.state,
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

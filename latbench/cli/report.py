"""`latbench report`: the report of a stored run again, made from its samples; and how `run` shows its own."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from latbench.model.errors import UserError
from latbench.report import csv as csv_report
from latbench.report import json as json_report
from latbench.report import junit as junit_report
from latbench.report import markdown as markdown_report
from latbench.report import text as text_report
from latbench.results import prompts_of, summary_of
from latbench.store.errors import StoreError
from latbench.store.sqlite import Store

_FORMS = {"markdown": markdown_report.render, "junit": junit_report.render}

store_option = click.option(
    "--store", type=click.Path(path_type=Path), default="latbench.db", show_default=True, help="The store."
)


def show(summary: Mapping[str, Any], places: tuple[str, ...], *, as_json: bool) -> None:
    """Print a summary on standard output; colour only on a terminal that wants it."""
    if as_json:
        json_report.render(summary, sys.stdout)
        return
    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    text_report.render(summary, sys.stdout, color, places)


def check_junit(file: Path | None) -> None:
    """Before anything is sent. Raises UserError where thresholds could not be written there."""
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        raise UserError(f"--junit {file}: not a file in a folder that is there; name another one")


def write_junit(summary: Mapping[str, Any], file: Path) -> None:
    """Write the thresholds for CI. Raises StoreError where that cannot be done: the run itself is in the store."""
    try:
        with file.open("w", encoding="utf-8") as out:
            junit_report.render(summary, out)
    except OSError as error:
        why = error.strerror or error
        advice = f"`latbench report {summary['run']['id']} --format junit` makes it again"
        raise StoreError(f"--junit {file}: cannot be written ({why}); {advice}") from error


def _draw(summary: Mapping[str, Any], folder: Path, *, png: bool) -> None:
    """Write the heat maps. Raises UserError where there is nothing to draw, or nothing to draw it with."""
    from latbench.report import heatmaps as pictures  # every run waits for what is imported above

    files = {name: picture.encode() for name, picture in pictures.svgs(summary).items()}
    if not files:
        raise UserError(f"--heatmaps: run {summary['run']['id']} sent no needle trials; there is nothing to draw")
    if png:
        files |= pictures.pngs(summary)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in files.items():
            (folder / name).write_bytes(picture)
    except OSError as error:
        raise StoreError(f"--heatmaps {folder}: cannot be written ({error.strerror or error})") from error


@click.command()
@click.argument("run", default="latest")
@click.option(
    *("--format", "form"),
    type=click.Choice(["text", "markdown", "json", "csv", "junit"]),
    default="text",
    show_default=True,
    envvar="LATBENCH_REPORT_FORMAT",
    help="junit: the thresholds as JUnit XML.",
)
@click.option(*("--json", "as_json"), is_flag=True, envvar="LATBENCH_REPORT_JSON", help="The same as --format json.")
@click.option(
    "--heatmaps",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Draw the needle trials into this directory, as SVG.",
)
@click.option("--png", is_flag=True, help="Draw them as PNG too, by matplotlib.")
@store_option
def report(run: str, form: str, as_json: bool, heatmaps: Path | None, png: bool, store: Path) -> None:
    """Print the report of RUN: an id, a unique prefix of one, or `latest`."""
    if png and heatmaps is None:
        raise UserError("--png: say where to with --heatmaps DIR")
    with Store(store, must_exist=True) as opened:
        record = opened.load_run(run)
        if form == "csv" and not as_json:
            csv_report.render(opened.samples(record.id), prompts_of(opened, record), sys.stdout)
            return
        summary = summary_of(opened, record)
    if heatmaps is not None:
        _draw(summary, heatmaps, png=png)
    if form in _FORMS and not as_json:
        _FORMS[form](summary, sys.stdout)
    else:
        show(summary, (f"store {store}",), as_json=as_json or form == "json")

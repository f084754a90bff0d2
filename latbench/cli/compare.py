"""`latbench compare`: two runs, or two windows, held against each other, and an exit code for CI."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from latbench.analysis.by_window import by_window, comparable
from latbench.analysis.compare import (
    INCONCLUSIVE,
    MARGIN,
    REGRESSED,
    Comparison,
    Gate,
    parse_gate,
)
from latbench.analysis.compare import (
    compare as compare_runs,
)
from latbench.analysis.differences import differences
from latbench.cli.report import store_option
from latbench.model.errors import ExitCode, UserError
from latbench.report import compare as compare_report
from latbench.report import json as json_report
from latbench.report.text import clean
from latbench.results import summary_named, summary_of
from latbench.store.sqlite import Store

OFF_PEAK, PEAK = "offpeak", "peak"
_EXIT = {REGRESSED: ExitCode.NOT_HELD, INCONCLUSIVE: ExitCode.INCONCLUSIVE}


class _GateType(click.ParamType[Gate]):
    """`tpot p95`. In the environment several are separated by semicolons."""

    name = "gate"
    envvar_list_splitter = ";"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Gate:  # noqa: ANN401
        try:
            return parse_gate(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.argument("a", required=False)
@click.argument("b", required=False)
@click.option("--by", type=click.Choice(["window"]), help="Compare the runs of two windows instead of two runs.")
@click.option("--scenario", metavar="NAME", help="With --by: the runs of this scenario, not of the newest one.")
@click.option(
    "--margin",
    type=click.FloatRange(1.0, 10.0, min_open=True),
    default=MARGIN,
    show_default=True,
    help="The smallest ratio that anyone would act on.",
)
@click.option(
    *("--gate", "gates"),
    type=_GateType(),
    metavar="EXPR",
    multiple=True,
    envvar="LATBENCH_COMPARE_GATE",
    help="A percentile that decides, too, as 'tpot p95'; may be repeated. TTFT p95 and end to end p95 always do.",
)
@click.option(
    "--fail-on",
    type=click.Choice(["regressed"]),
    help="Exit with 99 where the gate is REGRESSED, 98 where it is INCONCLUSIVE.",
)
@click.option("--force", is_flag=True, help="Compare runs that did not measure the same thing.")
@click.option("--json", "as_json", is_flag=True, envvar="LATBENCH_COMPARE_JSON", help="As JSON.")
@store_option
def compare(
    a: str | None,
    b: str | None,
    by: str | None,
    scenario: str | None,
    margin: float,
    gates: tuple[Gate, ...],
    fail_on: str | None,
    force: bool,
    as_json: bool,
    store: Path,
) -> None:
    """Hold B against A: what differs, the ratio B / A with its interval, and a verdict against a margin.

    A and B are runs: an id, a unique prefix of one, `latest`, a run directory or its summary.json. With `--by window`
    they are names of windows (`offpeak` and `peak` where none are given), and every run of them in the store counts.
    """
    if by is not None:
        if force:
            raise UserError("--force: not with --by window: runs that measured something else are left out")
        found = _by_window(a or OFF_PEAK, b or PEAK, scenario, store, margin, gates)
    elif a is None or b is None:
        raise UserError("compare needs two runs, A and B, or --by window; `latbench runs list` shows them")
    elif scenario is not None:
        raise UserError("--scenario: only with --by window")
    else:
        found = _two(a, b, store, margin, gates, force=force)
    if as_json:
        json_report.render(compare_report.document(found, fail_on), sys.stdout)
    else:
        compare_report.render(found, sys.stdout, sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    sys.exit(_EXIT.get(found.gate, ExitCode.OK) if fail_on else ExitCode.OK)


def _two(a: str, b: str, store: Path, margin: float, gates: tuple[Gate, ...], *, force: bool) -> Comparison:
    first, second = summary_named(a, store), summary_named(b, store)
    found = differences(first, second)
    blocking = [f"{one.what}: {clean(one.a)} (A), {clean(one.b)} (B)" for one in found if one.blocks]
    if blocking and not force:
        said = "\n".join(f"  {line}" for line in blocking)
        raise UserError(f"A and B did not measure the same thing; --force compares them all the same\n{said}")
    return compare_runs(first, second, found, margin=margin, gates=gates, forced=bool(blocking))


def _by_window(a: str, b: str, scenario: str | None, store: Path, margin: float, gates: tuple[Gate, ...]) -> Comparison:
    if a == b:
        raise UserError(f"--by window: {a} on both sides; name two windows, as `latbench compare {OFF_PEAK} {PEAK}`")
    with Store(store, must_exist=True) as opened:
        records = [one for one in opened.list_runs() if one.window in (a, b) and one.state != "running"]
        wanted = scenario or next((one.scenario_name for one in records), None)
        runs = [summary_of(opened, one) for one in records if one.scenario_name == wanted]
    valid = [one for one in runs if one["validity"]["verdict"] != "invalid"]
    alike = [valid[0], *comparable(valid[0], valid[1:])] if valid else []
    if len(alike) < len(runs):
        newest = f"than {valid[0]['run']['id']}, the newest" if valid else "than one another"
        why = f"invalid, or of other prompts or another load {newest}"
        gone = len(runs) - len(alike)
        click.echo(f"latbench: {gone} run{' is' if gone == 1 else 's are'} left out: {why}", err=True)
    sides = [[one for one in reversed(alike) if one["run"]["window"] == window] for window in (a, b)]
    for window, side in zip((a, b), sides, strict=True):
        if not side:
            of = "" if wanted is None else f" of scenario {wanted}"
            advice = f"`latbench run … --window {window}` makes them"
            raise UserError(f"--by window: no run{of} in window {window} is in {store}; {advice}")
    return by_window(*sides, margin=margin, gates=gates)

"""`latbench needle`: positional retrieval in long code, measured by the requests whose latency is measured."""

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import msgspec

from latbench.cli.exporting import Address, Exporter, export_options
from latbench.cli.launch import Setup, Trials, launch_trials, say, trials_of
from latbench.cli.options import endpoint_options, keep_options, pairs
from latbench.cli.plan import limits_of
from latbench.cli.report import check_junit, show, write_junit
from latbench.model.errors import ExitCode, UserError
from latbench.model.run import RunRecord, new_id
from latbench.report import json as json_report
from latbench.results import finished_trials, resumed
from latbench.scenario.check import load_whole
from latbench.scenario.loader import Flags, Loaded, find_scenario
from latbench.scenario.needle import PRESETS
from latbench.sim.trials import MODELS
from latbench.store.sqlite import Store
from latbench.trials import Again, recipes_of, within_budget

_LISTS = ("kinds", "lengths", "depths")
_KEYS = ("preset", *_LISTS, "jitter", "blocks", "haystack", "scale")


@click.command()
@click.argument("scenario", default="needle")
@click.option("--preset", type=click.Choice([*PRESETS]), help="Which trials, and how many at a time.")
@click.option("--kinds", metavar="LIST", help="What is asked for, as constant,bug.")
@click.option("--lengths", metavar="LIST", help="Prompts of so many tokens, as 4k,32k.")
@click.option("--depths", metavar="LIST", help="Depth strata, as 10%,50%,90%; or random.")
@click.option("--jitter", metavar="SHARE", help="How far from its stratum a needle may be, as 10%; 0 puts it there.")
@click.option("--blocks", type=click.IntRange(1), help="Haystacks of each kind and length.")
@click.option("--haystack", metavar="SOURCE", help="generated, stdlib, or a folder with Python code of your own.")
@click.option("--scale", type=float, help="Tokens that the endpoint counts for each of o200k_base; a report says it.")
@click.option("--send-code", is_flag=True, help="Agree that code of that folder leaves this machine.")
@endpoint_options
@click.option("--concurrency", type=click.IntRange(1), help="Requests under way at a time, for each endpoint.")
@click.option("--rate", help="Requests a second to each endpoint, as 4/s or 120/min, whatever is under way.")
@click.option("--max-tokens", help="Longest answer to ask for, in tokens.")
@click.option(
    "--budget",
    metavar="LIST",
    callback=pairs,
    help="What may be used up, as usd=5.00,requests=500,tokens=3M: no round is begun that might be too much.",
)
@click.option("--seed", type=int, help="Makes haystacks, needles and depths: the same seed makes the same ones.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Local worker processes.")
@keep_options("NEEDLE")
@export_options
@click.option(
    "--sim-model", type=click.Choice(MODELS), help="What the simulated endpoint is like, where it is started."
)
@click.option("--resume", metavar="RUN", help="Send what RUN planned and did not finish, as it would have been sent.")
@click.option(
    "--rebuild", metavar="RUN SEQ", nargs=2, type=str, help="Print the prompt of a request of RUN again; send nothing."
)
def needle(
    scenario: str,
    labels: dict[str, str],
    workers: int,
    window: str | None,
    store: Path,
    out: Path | None,
    as_json: bool,
    junit: Path | None,
    no_abort: bool,
    no_null_test: bool,
    quiet: bool,
    send_code: bool,
    sim_model: str | None,
    resume: str | None,
    rebuild: tuple[str, str] | None,
    metrics_addr: Address | None,
    metrics_keep: float,
    pushgateway: str | None,
    remote_write: str | None,
    **flags: Any,  # noqa: ANN401  those of `Flags`, and keys of the section `needle`
) -> None:
    """Hide things in long code and ask for them: accuracy by depth and length, with the latency of the same requests.

    SCENARIO, a file or a name, has a section `needle`; without it, and without --url, a simulated endpoint is asked.
    """
    if rebuild is not None:
        _rebuild(store, *rebuild)
        return
    check_junit(junit)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the run has handlers of its own
    given = {key: value for key in _KEYS if (value := flags.pop(key)) is not None}
    given |= {key: _listed(given[key]) for key in _LISTS if key in given}
    if "jitter" in given and given["jitter"] == "0":
        given["jitter"] = 0
    exporter = Exporter(metrics_addr, metrics_keep, pushgateway, remote_write, None if quiet else say)
    setup = Setup(
        *(workers, store, out, window, quiet),
        abort_early=not no_abort,
        exporter=exporter,
        null_test=not no_null_test,
    )
    chosen = Flags(labels=labels, needle=given, **flags)
    if resume is None:
        loaded = _load(find_scenario(scenario, Path.cwd()), chosen)
        trials = trials_of(loaded)
    else:
        loaded, trials = _resumed(store, resume, chosen)
    result = launch_trials(setup, loaded, trials, send_code=send_code, sim=sim_model or "")
    show(result.summary, (f"store {store}", f"run directory {result.directory}"), as_json=as_json)
    if junit is not None:
        write_junit(result.summary, junit)
    sys.stdout.flush()
    exporter.finish(wait=result.exit_code != ExitCode.INTERRUPTED)
    sys.exit(result.exit_code)


def _listed(written: str) -> list[str] | str:
    return written if written == "random" else [part.strip() for part in written.split(",")]


def _load(path: Path, flags: Flags) -> Loaded:
    loaded, _ = load_whole(path, flags, os.environ)
    if loaded.scenario.needle is None:
        raise UserError(f"{path}: has no section needle; add one (needle: {{preset: smoke}}), or give --preset")
    return loaded


def _resumed(store: Path, name: str, flags: Flags) -> tuple[Loaded, Trials]:
    """A stored run's own scenario, and those of its trials that are not finished, or were never begun."""
    if flags.needle:
        raise UserError("--resume: sends what was planned; leave out what would change the trials")
    with Store(store, must_exist=True) as opened:
        record = opened.load_run(name)
        chain = resumed(opened, record)
        made = {one.recipe.trial: one.recipe for run in chain for one in opened.trials(run.id)}
        done = finished_trials(opened, record)
    if not made:
        raise UserError(f"run {record.id} sent no needle trials; there is nothing to resume")
    loaded = _load_stored(record, flags)
    planned = recipes_of(loaded, chain[0].id)  # nonces and all, as they were to be sent from the first run on
    left = [
        msgspec.structs.replace(one, recipe=made.get(one.recipe.trial, one.recipe))
        for one in planned
        if one.recipe.trial not in done
    ]
    if not left:
        raise UserError(
            f"run {record.id}: all {len(planned)} trials are finished; `latbench report {record.id}` shows them"
        )
    kept, why = within_budget(loaded, limits_of(loaded), left)
    return loaded, Trials(kept, new_id(), why, record.id)


def _load_stored(record: RunRecord, flags: Flags) -> Loaded:
    """The scenario as it is stored. A folder of code is named in full there, since the file it stood in may be gone."""
    written = dict(record.scenario)
    folder = record.engine["needle"]["folder"]
    if folder is not None:
        written["needle"] = written["needle"] | {"haystack": folder}
    with tempfile.TemporaryDirectory(prefix="latbench-resume-") as place:
        path = Path(place) / "scenario.yaml"
        path.write_bytes(msgspec.yaml.encode(written))
        return _load(path, flags)


def _rebuild(store: Path, name: str, seq: str) -> None:
    """The prompt of a request, made anew from its recipe and held against the hash of what was sent."""
    with Store(store, must_exist=True) as opened:
        record = opened.load_run(name)
        planned = opened.trials(record.id)
        if not planned:
            raise UserError(f"run {record.id} sent no needle trials; there is no prompt to rebuild")
        if not seq.isascii() or not seq.isdigit() or int(seq) >= len(planned):
            raise UserError(f"--rebuild {seq}: run {record.id} has requests 0 to {len(planned) - 1}")
        trial = planned[int(seq)]
        answers = opened.answers(record.id, trial.recipe.trial)
    found = Again(planned, record.engine["needle"]["folder"]).trial(trial.recipe.trial)
    assert found is not None
    document: dict[str, Any] = {
        "trial": trial.recipe.trial,
        "kind": trial.recipe.kind,
        "control": trial.recipe.control,
        "depth": found.depth,
        "tokens": found.tokens,
        "prompt_sha256": found.recipe.prompt_sha256,
        "messages": [{"role": one.role, "content": one.content} for one in found.messages],
        "targets": msgspec.to_builtins(found.key.targets),
    }
    document["requests"] = [
        {
            "endpoint": sample.endpoint,
            "step": sample.step,
            "nonce": sample.nonce,
            "outcome": None if sample.grade is None else sample.grade.outcome,
            "answer": text,
        }
        for sample, text in answers
    ]
    json_report.render(document, sys.stdout)

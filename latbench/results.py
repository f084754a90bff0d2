"""From the store to the summary: what `run` does at its end and `report` at any time after. Imports no Locust.

Of a run without an end only what was saved is known, up to the last moment that a sample tells of: its window ends
there, not where it was planned to end. Whether it is still going on can be told on the machine that it was started on.
"""

import socket
from collections import Counter
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec

from latbench.analysis.groups import PromptInfo
from latbench.analysis.needle.trials import TrialRow, Trials, columns
from latbench.analysis.summary import SCHEMA_VERSION, summarise
from latbench.analysis.thresholds import FAIL, INCONCLUSIVE
from latbench.model.errors import ExitCode, UserError
from latbench.model.lifeline import process_started
from latbench.model.needle import Grade, TrialOutcome
from latbench.model.run import RunRecord
from latbench.model.sample import Outcome, Sample
from latbench.needle.grade import OF_SAMPLE
from latbench.needle.rows import calibrated, row, without_unread
from latbench.needle.trial import Planned
from latbench.report import json as json_report
from latbench.report import markdown
from latbench.store.manifest import REPORT, SUMMARY, RunDirectory
from latbench.store.sqlite import Store

Place = tuple[str, int]
"""An endpoint and a step."""


def prompts_of(store: Store, record: RunRecord) -> dict[str, PromptInfo]:
    """What slicing needs to know of a stored run's prompts, by id."""
    return {
        prompt.id: PromptInfo(prompt.task, prompt.language, prompt.tags, prompt.tokens, prompt.sha256)
        for prompt in store.prompts(record.id)
    }


def summary_of(store: Store, record: RunRecord) -> dict[str, Any]:
    """The summary of a stored run, made from its samples."""
    if record.state == "running":
        record = _so_far(store, record)
    efforts, needle = store.efforts(record.id), needle_trials(store, record)
    return summarise(record, store.samples(record.id), prompts_of(store, record), efforts=efforts, needle=needle)


def needle_trials(store: Store, record: RunRecord) -> dict[Place, Trials]:
    """The needle trials of a stored run by endpoint and step, with those that it resumed; none of another run.

    Of a round that was begun all trials are there, those that were never sent too; of other rounds none.
    """
    rows: dict[Place, dict[str, TrialRow]] = {}
    for run in resumed(store, record):
        planned = {one.recipe.trial: one for one in store.trials(run.id)}
        begun: dict[Place, set[int]] = {}
        for sample in sorted(store.samples(run.id), key=lambda one: one.due_ns) if planned else ():
            trial, place = planned.get(sample.prompt_id), (sample.endpoint, sample.step)
            if trial is None or (sample.outcome == Outcome.LOST and run.state == "running"):
                continue
            begun.setdefault(place, set()).add(trial.round)
            rows.setdefault(place, {})[sample.prompt_id] = _row(trial, sample)
        for (endpoint, step), numbers in begun.items() if run.state != "running" else ():
            for name, trial in planned.items():
                if trial.round in numbers and name not in rows[endpoint, step]:
                    never = Sample(endpoint, step, trial.number, name, "measure", Outcome.DROPPED)
                    rows[endpoint, step][name] = _row(trial, never)
    found = {place: list(of_place.values()) for place, of_place in rows.items()}
    quiet = {step.index for step in record.steps if step.concurrency == 1}
    scale = (record.scenario.get("needle") or {}).get("scale")

    def read_alone(endpoint: str) -> list[TrialRow]:
        return [one for (name, step), of in found.items() if name == endpoint and step in quiet for one in of]

    return {
        (endpoint, step): columns(calibrated(without_unread(of, read_alone(endpoint)), scale))
        for (endpoint, step), of in found.items()
    }


def _row(trial: Planned, sample: Sample) -> TrialRow:
    return row(trial.recipe, trial.depth, trial.chance, _grade(sample), sample, our_tokens=trial.tokens)


def _grade(sample: Sample) -> Grade:
    """What became of a trial; one that nobody graded has no answer that is known."""
    if sample.grade is not None:
        return sample.grade
    return Grade(outcome=TrialOutcome.WITHDRAWN if sample.outcome == Outcome.OK else OF_SAMPLE[sample.outcome])


def finished_trials(store: Store, record: RunRecord) -> frozenset[str]:
    """The trials of a run, and of those it resumed, that need not be sent again.

    At every endpoint, in every step, something has come of them.

    What was withdrawn was never answered, and a rate limit is no answer: both may be sent as they are. Everything else
    is a result, a failure too; to send it again until it succeeds would choose the result.
    """
    finished: set[str] = set()
    for run in resumed(store, record):
        done: Counter[str] = Counter()
        places: set[Place] = set()
        for sample in store.samples(run.id):
            places.add((sample.endpoint, sample.step))
            done[sample.prompt_id] += _grade(sample).outcome not in (TrialOutcome.WITHDRAWN, TrialOutcome.RATE_LIMITED)
        finished |= {prompt_id for prompt_id, times in done.items() if times >= len(places)}
    return frozenset(finished)


def resumed(store: Store, record: RunRecord) -> list[RunRecord]:
    """A run and those that it resumed, the oldest first; one that is not in the store any more ends the row."""
    chain = [record]
    while resumes := chain[-1].engine.get("needle", {}).get("resumes"):
        try:
            chain.append(store.load_run(resumes))
        except UserError:
            break
    return chain[::-1]


def exit_code(record: RunRecord, summary: Mapping[str, Any]) -> ExitCode:
    """What a run that was not interrupted ends with: the first that applies, in the order of the contract."""
    results = {one["result"] for one in summary["thresholds"]}
    if record.stops:
        return ExitCode.GUARD
    if summary["validity"]["verdict"] == "invalid":
        return ExitCode.INVALID
    if FAIL in results:
        return ExitCode.NOT_HELD
    return ExitCode.INCONCLUSIVE if INCONCLUSIVE in results else ExitCode.OK


def running_process(record: RunRecord) -> int | None:
    """The process of this machine in which the run is still going on, if there is one."""
    pid, started = record.host.get("pid", ""), record.host.get("pid_started")
    if record.state != "running" or not started_here(record) or not pid.isdecimal():
        return None
    return int(pid) if started is not None and process_started(int(pid)) == started else None


def started_here(record: RunRecord) -> bool:
    """Whether the run was started on this machine: of another one's processes nothing is known here."""
    return record.host.get("name") == socket.gethostname()


def killed(record: RunRecord) -> bool | None:
    """Whether the run's process is gone and has not brought it to an end. None where that cannot be seen from here."""
    if record.state != "running":
        return False
    return running_process(record) is None if started_here(record) else None


def last_moment(sample: Sample) -> int:
    """The last moment that a sample tells of, on the run's clock."""
    return max(sample.due_ns, sample.sent_ns or 0, sample.done_ns or 0)


def _so_far(store: Store, record: RunRecord) -> RunRecord:
    """A run without an end as it is known: with a note that says so, its last step up to what was seen last."""
    fate = killed(record)
    if fate is False:
        said = (
            f"the run is still going on (process {running_process(record)}); the figures are of what was saved so far"
        )
    else:
        since = (
            f"it was started on {record.host.get('name', 'another machine')}; if it is not going on there any more"
            if fate is None
            else "its process is gone and the figures are of what was saved; to recover what is missing and end it"
        )
        said = f"the run never ended: {since}: latbench runs recover {record.id}"
    note = {"code": "unfinished", "severity": "suspect", "advice": said}
    steps = list(record.steps)
    for step in steps[-1:]:
        seen_ns = max((last_moment(one) for one in store.samples(record.id) if one.step == step.index), default=0)
        until_ns = max(step.measure_from_ns, min(step.measure_to_ns, seen_ns))
        steps[-1] = msgspec.structs.replace(step, measure_to_ns=until_ns)
    return msgspec.structs.replace(record, steps=steps, notes=[*record.notes, note])


def summary_named(name: str, store: Path) -> dict[str, Any]:
    """The summary of a run that is named as on the command line, or lies in a run directory or a file.

    Raises UserError where there is none, or none that can be compared.
    """
    path = Path(name)
    if not (path.is_dir() or "/" in name or path.suffix == ".json"):
        with Store(store, must_exist=True) as opened:
            return summary_of(opened, opened.load_run(name))
    file = path / SUMMARY if path.is_dir() else path
    try:
        found = msgspec.json.decode(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error}); name a run or its directory") from error
    except msgspec.DecodeError as error:
        raise UserError(f"{file}: not the summary.json of a run ({error})") from error
    missing = {"schema_version", "run", "validity", "endpoints", "steps"} - set(
        found if isinstance(found, dict) else ()
    )
    if missing or found["schema_version"] != SCHEMA_VERSION:
        raise UserError(f"{file}: not the summary.json of a run; name a run or its directory")
    if "provenance" not in found:
        run = found["run"].get("id", "ID")
        raise UserError(
            f"{file}: an older latbench wrote it, without what tells runs apart;"
            f" `latbench report {run} --json` makes it again where the store is"
        )
    return dict(found)


def write_reports(directory: RunDirectory, summary: Mapping[str, Any]) -> None:
    """Write what people pass on: the summary, the report, heat maps of needle trials. Raises StoreError where the disk
    fails.
    """
    for name, render in ((SUMMARY, json_report.render), (REPORT, markdown.render)):
        text = StringIO()
        render(summary, text)
        directory.write_atomic(name, text.getvalue())
    from latbench.report import heatmaps  # few runs have needles, and every run waits for what is imported above

    for name, picture in heatmaps.svgs(summary).items():
        directory.write_atomic(name, picture)

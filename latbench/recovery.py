"""A run put together again after a kill: what its store holds, and what its engines had spooled.

Every request that was begun is in one of the two, with its fate or as `lost`, and merging a spool twice changes
nothing. How many were begun was counted in memory that is gone. It is proven instead: requests are begun lane by lane
without leaving one out, so a number that is missing among those that are there is a request without a record, and
conservation then does not hold. Nothing here deletes; the reports are there before the run counts as recovered, so that
a recovery that is killed can be started again.
"""

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from latbench.model.errors import ExitCode, UserError
from latbench.model.run import RunRecord
from latbench.model.sample import Outcome, Sample
from latbench.model.spool import being_written, read_spool, segments, spools_of
from latbench.needle.pages import NeedleReader
from latbench.plan.partition import gaps
from latbench.results import exit_code, last_moment, running_process, summary_of, write_reports
from latbench.scenario.grading import DEFAULT_SCHEMA, Reader
from latbench.store.manifest import RunDirectory
from latbench.store.sqlite import Store
from latbench.trials import Again

_CODE = "recovered"


class Recovered(msgspec.Struct):
    """What came of it. Without `changed` everything was there already, and nothing was written.

    `merged` are the segments that are in the store as a whole and to which nothing will be added. `left` says of the
    others why, a line each.
    """

    summary: dict[str, Any]
    changed: bool
    merged: list[Path]
    left: list[str]


def recover(store: Store, record: RunRecord, folders: Sequence[Path]) -> Recovered:
    """Merge the run's spools, in `folders` or in folders of the run's id in them, and bring the run to an end.

    To a run that has ended, spools can only add what its master never heard of. Raises UserError for a run that is
    still going on, StoreError where the disk fails.
    """
    pid = running_process(record)
    if pid is not None:
        raise UserError(f"run {record.id} is still running (process {pid}); it writes its report when it ends")
    merging = _Merging(store, record.id, _reader(store, record))
    for path in {path: None for folder in folders for path in (*segments(folder), *spools_of(folder, record.id))}:
        merging.add(path)
    changed = record.state == "running" or merging.changed > 0
    if changed:
        rows = _Rows(store, record)
        if record.state == "running" or _CODE in record.engine:
            _reconstruct(record, rows, merging.names)
        else:
            planned: dict[str, int] = record.engine.get("planned", {})
            _plan(record, {key: max(planned.get(key, 0), rows.counts[key]) for key in {*planned, *rows.counts}})
    return Recovered(
        _conclude(store, record) if changed else summary_of(store, record), changed, merging.merged, merging.left
    )


def _reader(store: Store, record: RunRecord) -> Reader | NeedleReader:
    """Who reads what was spooled: answers to needle trials are graded against these, made again."""
    reader = Reader(record.scenario.get("output", {}).get("schema", DEFAULT_SCHEMA), ())
    trials = store.trials(record.id)
    return NeedleReader(reader, Again(trials, record.engine["needle"]["folder"]).trial) if trials else reader


class _Merging:
    """Spools on their way into the store. `names` are the segments that had something of this run."""

    def __init__(self, store: Store, run_id: str, reader: Reader | NeedleReader) -> None:
        self._store = store
        self._run_id = run_id
        self._reader = reader
        self.changed = 0
        self.names: set[str] = set()
        self.merged: list[Path] = []
        self.left: list[str] = []

    def add(self, path: Path) -> None:
        """One segment. What stands before a damage is merged; segments of other runs are passed over."""
        found: list[Sample] = []
        try:
            ended = not being_written(path)  # asked first: what is added after the reading must not be deleted
            header, samples = read_spool(path)
            if header.run_id != self._run_id:
                return
            self.names.add(path.name)
            for sample in samples:
                sample.worker = sample.worker or header.worker
                self._reader.read(sample)
                found.append(sample)
            if ended:
                self.merged.append(path)
            else:
                self.left.append(f"{path}: its engine is still alive; recover again when that has ended")
        except (OSError, ValueError) as fault:
            self.left.append(str(fault))
        self.changed += self._store.add_samples(self._run_id, found)


class _Rows:
    """What the rows of a run say together."""

    def __init__(self, store: Store, record: RunRecord) -> None:
        self.counts: Counter[str] = Counter()  # by endpoint/phase, as `engine["planned"]`
        self.lost = 0
        self.seen_ns: dict[int, int] = {}  # by step: the last moment of which anything is known
        seqs: dict[tuple[str, int], array[int]] = {}
        for sample in store.samples(record.id):
            self.counts[f"{sample.endpoint}/{sample.phase}"] += 1
            self.lost += sample.outcome == Outcome.LOST
            self.seen_ns[sample.step] = max(self.seen_ns.get(sample.step, 0), last_moment(sample))
            seqs.setdefault((sample.endpoint, sample.step), array("q")).append(sample.seq)
        loads = {step.index: step.load for step in record.steps}
        self.missing: Counter[str] = Counter()  # by endpoint: requests that were begun and have no row
        for (endpoint, step), numbers in seqs.items():
            load = loads.get(step)
            if load is not None:
                self.missing[endpoint] += gaps(load, np.frombuffer(numbers, dtype=np.int64))


def _reconstruct(record: RunRecord, rows: _Rows, names: set[str]) -> None:
    """What the master did not live to write down: the end of its last step, what was planned, and why."""
    known: dict[str, Any] = record.engine.setdefault(_CODE, {"spools": [], "ends_ns": {}})
    known["spools"] = sorted({*known["spools"], *names})
    for step in record.steps[-1:]:
        # Kept from the first recovery on: a spool that comes later may know of later moments.
        planned_ns: int = known["ends_ns"].setdefault(str(step.index), step.measure_to_ns)
        seen_ns = rows.seen_ns.get(step.index, 0)
        step.measure_to_ns = max(step.measure_from_ns, min(planned_ns, seen_ns))
    planned = Counter(rows.counts)
    for endpoint, missing in rows.missing.items():
        if missing:  # whether they were due in the warm-up is not known
            planned[f"{endpoint}/measure"] += missing
    _plan(record, planned)
    record.duration_s = max(rows.seen_ns.values(), default=0) / 1e9
    record.state = "partial"
    record.notes = [note for note in record.notes if note.get("code") != _CODE]
    record.notes.append(_note(rows.lost, len(known["spools"])))


def _plan(record: RunRecord, planned: Mapping[str, int]) -> None:
    record.engine["planned"] = dict(sorted(planned.items()))
    record.planned = sum(planned.values())


def _note(lost: int, spools: int) -> dict[str, Any]:
    came = f"the run was killed; recovered from the store and {spools} spool{'s' * (spools != 1)}"
    fate = f"what became of {lost} requests is not known (outcome `lost`)" if lost else "no request is lost"
    advice = f"{came}; {fate}; what a machine whose spools are missing began last is not known"
    return {"code": _CODE, "severity": "suspect", "value": None, "limit": None, "advice": advice}


def _conclude(store: Store, record: RunRecord) -> dict[str, Any]:
    """Judge, write the reports where the run directory still is, and only then end the run in the store."""
    summary = summary_of(store, record)
    if record.exit_code != ExitCode.INTERRUPTED:
        record.exit_code = exit_code(record, summary)
    summary["run"]["exit_code"] = record.exit_code
    if record.directory is not None and Path(record.directory).is_dir():
        write_reports(RunDirectory(Path(record.directory)), summary)
    store.update_run(record)
    return summary

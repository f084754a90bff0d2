"""Runs put together again after a kill, from stores and spools made by hand: what is there, what is missing, twice."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from harness import Cli
from hypothesis import given, settings
from hypothesis import strategies as st

from latbench.model.errors import UserError
from latbench.model.lifeline import process_started
from latbench.model.load import Closed, Poisson, Shape, Step
from latbench.model.request import Message, Prompt
from latbench.model.run import RunRecord, StepRecord
from latbench.model.sample import Sample
from latbench.model.spool import Spool, SpoolHeader, spools_of
from latbench.recovery import Recovered, recover
from latbench.results import killed as was_killed
from latbench.results import running_process, summary_of
from latbench.store.sqlite import Store

S = 10**9
HERE = socket.gethostname()
WORKER = f"{HERE}_00ff"
PROMPT = Prompt("p1", "review", "go", (Message("user", "x"),), 12, "ab" * 32)


def step(index: int = 0, shape: Shape | None = None, **fields: Any) -> StepRecord:
    """Ten seconds of warm-up, then it is to last until 60 s."""
    load = Step(shape or Poisson(4.0), duration_ns=50 * S, warmup_ns=10 * S)
    made = StepRecord(index, load.name, load.concurrency, load.rate, None, 0, 10 * S, 60 * S, load)
    return msgspec.structs.replace(made, **fields)


def killed(run_id: str = "r1", **fields: Any) -> RunRecord:
    """The record that a master leaves which is killed in its first step."""
    record = RunRecord(run_id, "name", "scenario", "0" * 64, {"seed": 7}, "2026-01-01T00:00:00Z", 1, 7)
    endpoints = {"e": {"provider": "p", "api": "openai-chat", "model": "m"}}
    host = {"name": HERE, "pid": "999999999", "pid_started": "1"}
    return msgspec.structs.replace(record, **({"endpoints": endpoints, "host": host, "steps": [step()]} | fields))


def begun(seq: int, at_s: float = 12.0, **fields: Any) -> Sample:
    made = Sample("e", 0, seq, "p1", "measure" if at_s >= 10 else "warmup", "lost", due_ns=int(at_s * S))
    return msgspec.structs.replace(made, **fields)


def ended(seq: int, at_s: float = 12.0, took_s: float = 0.5, **fields: Any) -> Sample:
    due, done = int(at_s * S), int((at_s + took_s) * S)
    times = {"sent_ns": due, "first_token_ns": done, "last_token_ns": done, "done_ns": done, "chunks": 1}
    return msgspec.structs.replace(begun(seq, at_s), outcome="ok", **(times | fields))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "latbench.db") as opened:
        yield opened


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spools"


def leave(store: Store, record: RunRecord, samples: list[Sample]) -> None:
    """What a killed master leaves in its store."""
    store.begin_run(record, [PROMPT])
    store.add_samples(record.id, samples)


def spooled(root: Path, *samples: Sample, run_id: str = "r1", worker: str = WORKER) -> None:
    """What a killed engine leaves in its spool."""
    made = Spool(root / run_id, SpoolHeader(run_id, "1.0", worker))
    for sample in samples:
        made.add(sample)
    assert made.failed is None
    made.close(delete=False)


def again(store: Store, *folders: Path, name: str = "r1") -> Recovered:
    return recover(store, store.load_run(name), folders)


def fates(store: Store, run_id: str = "r1") -> dict[int, str]:
    return {sample.seq: sample.outcome for sample in store.samples(run_id)}


# --- a killed run -----------------------------------------------------------------------------------------------------


def test_store_and_spool_make_the_run(store: Store, root: Path) -> None:
    leave(store, killed(), [ended(0, 5), ended(1), begun(2, 13), begun(3, 14)])
    spooled(root, begun(2, 13), begun(3, 14), ended(2, 13, 7.5), begun(4, 15))
    recovered = again(store, root)
    assert fates(store) == {0: "ok", 1: "ok", 2: "ok", 3: "lost", 4: "lost"}
    record = store.load_run("r1")
    assert (record.state, record.exit_code, record.duration_s) == ("partial", 97, 20.5)
    assert record.steps[0].measure_to_ns == int(20.5 * S), "nothing is known of any later moment"
    assert record.engine["planned"] == {"e/measure": 4, "e/warmup": 1}
    assert record.planned == 5
    (note,) = record.notes
    assert (note["code"], note["severity"], note["value"]) == ("recovered", "suspect", None)
    said = "the run was killed; recovered from the store and 1 spool; what became of 2 requests is not known"
    assert said in note["advice"]
    summary = recovered.summary
    assert recovered.changed
    assert recovered.left == []
    assert summary["run"]["state"] == "partial"
    assert summary["run"]["exit_code"] == 97
    validity = summary["validity"]
    assert (validity["verdict"], validity["planned"], validity["ok"], validity["lost"]) == ("invalid", 4, 2, 2)
    assert {reason["code"] for reason in validity["reasons"]} == {"lost", "recovered"}
    assert summary["steps"][0]["phase_s"] == [10.0, 20.5]


def test_with_every_fate_known_the_run_is_suspect_and_not_invalid(store: Store, root: Path) -> None:
    leave(store, killed(), [begun(seq, 12 + seq) for seq in range(6)])
    spooled(root, *(ended(seq, 12 + seq) for seq in range(6)))
    recovered = again(store, root)
    assert recovered.summary["validity"]["verdict"] == "suspect"
    assert [reason["code"] for reason in recovered.summary["validity"]["reasons"]] == ["recovered"]
    assert store.load_run("r1").exit_code == 0


def test_a_run_that_a_guard_had_stopped_says_so(store: Store, root: Path) -> None:
    leave(store, killed(stops=[("e", "credentials refused")]), [ended(0)])
    again(store, root)
    assert store.load_run("r1").exit_code == 96


@pytest.mark.parametrize(
    ("shape", "seqs", "missing"),
    [
        (Poisson(4.0), [0, 64, 1, 3], 0),
        (Poisson(4.0), [0, 128, 1, 257], 1 + 3),
        (Closed(4), [0, 4, 8, 3, 7, 2**32 + 3], 0),
        (Closed(4), [0, 8, 3, 11, 2**32 + 7], 1 + 1 + 1),
    ],
)
def test_a_hole_in_a_lane_breaks_conservation(
    store: Store, root: Path, shape: Shape, seqs: list[int], missing: int
) -> None:
    leave(store, killed(steps=[step(shape=shape)]), [ended(seq) for seq in seqs])
    recovered = again(store, root)
    record = store.load_run("r1")
    assert record.planned == record.engine["planned"]["e/measure"] == len(seqs) + missing
    reasons = {reason["code"]: reason for reason in recovered.summary["validity"]["reasons"]}
    assert ("conservation" in reasons) == (missing > 0)
    if missing:
        assert (reasons["conservation"]["value"], reasons["conservation"]["limit"]) == (len(seqs), len(seqs) + missing)
    assert record.exit_code == (97 if missing else 0)


def test_steps_are_proven_one_by_one(store: Store, root: Path) -> None:
    """Number 64 is the second of its lane in each step: without number 0 there is a hole in both."""
    steps = [step(0), step(1, started_ns=60 * S, measure_from_ns=70 * S, measure_to_ns=120 * S)]
    samples = [ended(64), ended(64, 75, step=1), ended(0, endpoint="f"), ended(64, 75, endpoint="f", step=1)]
    leave(store, killed(steps=steps), samples)
    again(store, root)
    record = store.load_run("r1")
    assert record.engine["planned"] == {"e/measure": 2 + 2, "f/measure": 2 + 1}
    assert [one.measure_to_ns for one in record.steps] == [60 * S, int(75.5 * S)], "the first step had ended before"


def test_a_step_whose_load_is_not_known_is_taken_as_it_is(store: Store, root: Path) -> None:
    leave(store, killed(steps=[step(load=None)]), [ended(64), ended(7, step=3)])
    again(store, root)
    assert store.load_run("r1").engine["planned"] == {"e/measure": 2}


def test_the_end_is_never_after_the_planned_one_nor_before_the_measured_phase(store: Store, root: Path) -> None:
    leave(store, killed("late"), [ended(0, 59, 20)])
    leave(store, killed("early"), [ended(0, 3)])
    leave(store, killed("empty", steps=[]), [])
    ends = {}
    for name in ("late", "early", "empty"):
        again(store, root, name=name)
        record = store.load_run(name)
        ends[name] = [one.measure_to_ns for one in record.steps]
        assert record.state == "partial"
    assert ends == {"late": [60 * S], "early": [10 * S], "empty": []}


def test_tokens_that_the_provider_did_not_count_are_counted(store: Store, root: Path) -> None:
    leave(store, killed(), [])
    spooled(
        root,
        ended(0, text="one two three", text_chars=13, token_source="tokenizer"),
        ended(1, output_tokens=9, token_source="usage", worker="other"),
    )
    again(store, root)
    counted = [(sample.output_tokens, sample.token_source, sample.worker) for sample in store.samples("r1")]
    assert counted == [(3, "tokenizer", WORKER), (9, "usage", "other")]


def test_the_reports_are_written_where_the_run_directory_is(store: Store, root: Path, tmp_path: Path) -> None:
    directory = tmp_path / "out"
    directory.mkdir()
    leave(store, killed(directory=str(directory)), [ended(0)])
    leave(store, killed("r2", directory=str(tmp_path / "gone")), [ended(0)])
    recovered = again(store, root)
    again(store, root, name="r2")
    assert json.loads((directory / "summary.json").read_text()) == recovered.summary
    assert "recovered from the store" in (directory / "report.md").read_text()
    assert sorted(path.name for path in directory.iterdir()) == ["report.md", "summary.json"]
    assert not (tmp_path / "gone").exists()


# --- again and again --------------------------------------------------------------------------------------------------


def test_twice_is_once(store: Store, root: Path) -> None:
    leave(store, killed(), [ended(0), begun(1)])
    spooled(root, ended(1), begun(2))
    first = again(store, root)
    record = store.load_run("r1")
    second = again(store, root)
    assert not second.changed
    assert second.summary == first.summary
    assert store.load_run("r1") == record
    assert second.merged == first.merged == spools_of(root, "r1")


def test_a_recovery_that_was_killed_is_started_again(store: Store, root: Path) -> None:
    """All spools were merged, and the record was not written any more."""
    leave(store, killed(), [ended(0), begun(1)])
    spooled(root, ended(1), begun(2))
    store.add_samples("r1", [ended(1, worker=WORKER), begun(2, worker=WORKER)])
    assert again(store, root).changed
    record = store.load_run("r1")
    assert (record.state, record.planned) == ("partial", 3)
    assert "1 spool;" in record.notes[0]["advice"]


def test_spools_that_come_later_are_added(store: Store, root: Path, tmp_path: Path) -> None:
    leave(store, killed(), [begun(0), begun(1)])
    spooled(root, ended(0))
    again(store, root)
    assert store.load_run("r1").steps[0].measure_to_ns == int(12.5 * S)
    spooled(tmp_path / "copied", ended(1, 12, 5), ended(2, 13), worker="other")
    recovered = again(store, tmp_path / "copied" / "r1")
    record = store.load_run("r1")
    assert recovered.changed
    assert record.steps[0].measure_to_ns == 17 * S
    assert (record.planned, record.exit_code, len(record.notes)) == (3, 0, 1)
    assert "the store and 2 spools; no request is lost" in record.notes[0]["advice"]


KEYS = st.tuples(st.integers(0, 9), st.booleans())


@settings(max_examples=25)
@given(st.lists(KEYS, max_size=12), st.lists(st.lists(KEYS, max_size=6), max_size=4), st.data())
def test_spools_in_any_order_and_number_make_the_same_run(
    tmp_path_factory: pytest.TempPathFactory,
    stored: list[tuple[int, bool]],
    spools: list[list[tuple[int, bool]]],
    data: st.DataObject,
) -> None:
    def made(keys: list[tuple[int, bool]]) -> list[Sample]:
        return [ended(seq, worker="w") if known else begun(seq, worker="w") for seq, known in keys]

    roots = []
    for number, keys in enumerate(spools):
        roots.append(tmp_path_factory.mktemp("spools"))
        spooled(roots[-1], *made(keys), worker=f"w{number}")
    orders = [roots, data.draw(st.permutations(roots)), [*roots, *roots]]
    seen = []
    for order in orders:
        with Store(Path(":memory:")) as store:
            leave(store, killed(), made(stored))
            if order is orders[1]:  # one after the other, each a recovery of its own
                for root in order or [tmp_path_factory.mktemp("none")]:
                    again(store, root)
            else:
                again(store, *order)
            seen.append((store.load_run("r1"), list(store.samples("r1"))))
    assert seen[0][1] == seen[1][1] == seen[2][1]
    assert seen[0][0].planned == seen[1][0].planned == seen[2][0].planned
    assert seen[0][0].steps == seen[1][0].steps == seen[2][0].steps
    assert seen[0][0].exit_code == seen[1][0].exit_code == seen[2][0].exit_code


# --- runs that have ended ---------------------------------------------------------------------------------------------


def over(**fields: Any) -> RunRecord:
    known = {
        "state": "complete",
        "exit_code": 0,
        "duration_s": 61.0,
        "planned": 2,
        "engine": {"planned": {"e/measure": 2}},
    }
    return killed(**(known | fields))


def test_a_complete_run_stays_as_it_is(store: Store, root: Path) -> None:
    leave(store, over(), [ended(0), ended(1)])
    spooled(root, begun(0), ended(1))
    recovered = again(store, root)
    assert not recovered.changed
    assert store.load_run("r1") == over()
    assert recovered.summary["run"]["state"] == "complete"
    assert recovered.merged == spools_of(root, "r1")


def test_the_spool_of_a_lost_worker_tells_what_the_master_never_heard(store: Store, root: Path) -> None:
    leave(store, over(state="partial", exit_code=97), [ended(0), begun(1)])
    spooled(root, ended(1), ended(2))
    assert again(store, root).changed
    record = store.load_run("r1")
    assert fates(store) == {0: "ok", 1: "ok", 2: "ok"}
    assert (record.state, record.exit_code, record.duration_s, record.notes) == ("partial", 0, 61.0, [])
    assert (record.planned, record.engine["planned"]) == (3, {"e/measure": 3})
    assert record.steps == over().steps


def test_what_was_planned_and_is_not_there_stays_missing(store: Store, root: Path) -> None:
    leave(store, over(planned=9, engine={"planned": {"e/measure": 9}}), [ended(0)])
    spooled(root, ended(1))
    recovered = again(store, root)
    assert store.load_run("r1").planned == 9
    assert [reason["code"] for reason in recovered.summary["validity"]["reasons"]] == ["conservation"]


def test_an_interrupted_run_stays_interrupted(store: Store, root: Path) -> None:
    leave(store, over(state="partial", exit_code=130), [begun(0)])
    spooled(root, ended(0))
    again(store, root)
    assert store.load_run("r1").exit_code == 130


# --- what is not a run to recover, and what is not a spool of it ------------------------------------------------------


def test_a_run_that_is_still_going_on_is_refused(store: Store, root: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        host = {"name": HERE, "pid": str(process.pid), "pid_started": process_started(process.pid) or ""}
        record = killed(host=host)
        leave(store, record, [begun(0)])
        spooled(root, ended(0))
        with pytest.raises(UserError, match=rf"run r1 is still running \(process {process.pid}\)"):
            again(store, root)
        assert fates(store) == {0: "lost"}, "nothing was merged"
        elsewhere = msgspec.structs.replace(record, host=host | {"name": "elsewhere"})
        another = msgspec.structs.replace(record, host=host | {"pid_started": "1"})
        finished = msgspec.structs.replace(record, state="complete")
        unknown = msgspec.structs.replace(record, host={"name": HERE})
        assert running_process(record) == process.pid
        assert [was_killed(one) for one in (record, elsewhere, another, finished, unknown)] == [
            *(False, None, True, False, True)
        ]
        assert [running_process(one) for one in (elsewhere, another, finished, unknown)] == [None] * 4
        process.kill()
    assert again(store, root).changed


def test_foreign_files_and_foreign_runs_stay_out(store: Store, root: Path) -> None:
    leave(store, killed(), [ended(0)])
    spooled(root, ended(1))
    spooled(root, ended(2), run_id="r2")
    (root / "r1" / "notes.txt").write_text("keep me")
    (root / "r1" / "x-000001.spool").write_text("keep me")
    (root / "r1" / "y-000001.spool").mkdir()
    spooled(root / "r1", ended(3), run_id="r3")
    (foreign,) = spools_of(root, "r2")
    foreign.rename(root / "r1" / foreign.name.replace("000001", "000002"))
    recovered = again(store, root, root / "absent")
    assert fates(store) == {0: "ok", 1: "ok"}
    assert [line.removeprefix(f"{root}/r1/") for line in recovered.left] == [
        "x-000001.spool: not a spool of latbench's",
        f"[Errno 21] Is a directory: '{root}/r1/y-000001.spool'",
    ]
    assert len(recovered.merged) == 1


def test_of_a_damaged_spool_the_beginning_is_merged(store: Store, root: Path) -> None:
    leave(store, killed(), [begun(0), begun(1)])
    spooled(root, ended(0))
    (path,) = spools_of(root, "r1")
    with path.open("ab") as file:
        file.write(b"\0\0\0\x01\xc1")
    recovered = again(store, root)
    assert fates(store) == {0: "ok", 1: "lost"}
    assert recovered.merged == []
    assert "damaged after 1 samples" in recovered.left[0]


def test_the_spool_of_a_living_engine_is_merged_and_kept(store: Store, root: Path) -> None:
    leave(store, killed(), [begun(0)])
    engine = Spool(root / "r1", SpoolHeader("r1", "1.0", WORKER))
    engine.add(ended(0))
    engine.add(begun(1))
    recovered = again(store, root)
    assert fates(store) == {0: "ok", 1: "lost"}
    assert recovered.merged == []
    assert "its engine is still alive; recover again when that has ended" in recovered.left[0]
    engine.add(ended(1))
    engine.close(delete=False)
    recovered = again(store, root)
    assert fates(store) == {0: "ok", 1: "ok"}
    assert recovered.merged == spools_of(root, "r1")
    assert store.load_run("r1").exit_code == 0


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_recovers_every_killed_run_of_this_machine(cli: Cli) -> None:
    root = cli.cwd / "spools"
    directory = cli.cwd / "out"
    directory.mkdir()
    alive = {"name": HERE, "pid": str(os.getpid()), "pid_started": process_started(os.getpid()) or ""}
    with Store(cli.cwd / "latbench.db") as store:
        leave(store, killed(directory="out"), [begun(0)])
        leave(store, killed("r2"), [ended(0)])
        leave(store, killed("alive", host=alive), [begun(0)])
        leave(store, killed("far", host={"name": "far\x1b[31maway"}), [begun(0)])
        leave(store, over(id="done"), [ended(0), ended(1)])
    spooled(root, ended(0))
    spooled(root, begun(0), run_id="alive")
    (root / "r1" / "x-000001.spool").write_text("keep me")
    done = cli.here("runs", "recover", env={"LATBENCH_SPOOL": str(root)})
    assert done.code == 0, done.err
    assert done.out.count("recovered from the store") == 2
    assert "run directory out" in done.out
    assert "store latbench.db" in done.out
    assert "run far was started on far" in done.err
    assert "\x1b" not in done.err
    assert "x-000001.spool: not a spool of latbench's" in done.err
    states = dict(cli.rows("SELECT id, state FROM runs"))
    assert states == {"r1": "partial", "r2": "partial", "alive": "running", "far": "running", "done": "complete"}
    assert json.loads((directory / "summary.json").read_text())["run"]["id"] == "r1"
    assert [path.relative_to(root).parts[0] for path in root.rglob("*.spool")].count("alive") == 1
    assert [path.name for path in (root / "r1").iterdir()] == ["x-000001.spool"], "the rest is in the store"
    done = cli.here("runs", "recover", env={"LATBENCH_SPOOL": str(root)})
    assert (done.code, done.out) == (0, "no run in latbench.db was killed: nothing to recover\n")


def test_the_command_takes_a_run_and_spools_from_elsewhere(cli: Cli) -> None:
    root, copied = cli.cwd / "spools", cli.cwd / "copied"
    with Store(cli.cwd / "other.db") as store:
        leave(store, killed("abc", host={"name": "far"}), [begun(0), begun(1)])
    spooled(root, ended(0), run_id="abc")
    spooled(copied, ended(1), run_id="abc", worker="w2")
    more = ("--spool", copied, "--store", "other.db")
    done = cli.here("runs", "recover", "ab", *more, env={"LATBENCH_SPOOL": str(root)})
    assert done.code == 0, done.err
    assert "2 spools; no request is lost" in " ".join(done.out.split())
    assert cli.rows("SELECT outcome FROM samples", store="other.db") == [("ok",), ("ok",)]
    assert not (root / "abc").exists()
    assert len(spools_of(copied, "abc")) == 1, "a copy is its owner's"
    done = cli.here("runs", "recover", "ab", *more, env={"LATBENCH_SPOOL": str(root)})
    assert done.code == 0
    assert done.out == "run abc is partial, and no spool knows more of it: nothing to recover\n"


def test_mistakes_of_the_command(cli: Cli) -> None:
    assert cli.here("runs", "recover").code == 2
    alive = {"name": HERE, "pid": str(os.getpid()), "pid_started": process_started(os.getpid()) or ""}
    with Store(cli.cwd / "latbench.db") as store:
        leave(store, killed(host=alive), [])
    for args, words in [
        (["r1"], f"run r1 is still running (process {os.getpid()})"),
        (["zz"], "no run has an id that begins with 'zz'"),
        (["r1", "--spool", "absent"], "'absent' does not exist"),
    ]:
        done = cli.here("runs", "recover", *args)
        assert done.code == 2
        assert words in done.err
        assert done.out == ""


# --- before it is recovered -------------------------------------------------------------------------------------------


def test_a_report_of_a_killed_run_begins_with_that_and_ends_where_its_samples_do(cli: Cli) -> None:
    with Store(cli.cwd / "latbench.db") as store:
        leave(store, killed(directory="out"), [ended(0), ended(1, 20), begun(2, 24)])
    done = cli.here("report", "r1")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "verdict: suspect"
    assert lines[1].startswith("suspect: unfinished; the run never ended: its process is gone")
    assert "latbench runs recover r1" in " ".join(" ".join(lines[1:4]).split())
    assert "(14.0 s measured)" in " ".join(done.out.split()), "not the 50 s that were planned"
    assert cli.here("report", "r1", "--json").summary["steps"][0]["phase_s"] == [10.0, 24.0]


def test_that_a_run_never_ended_comes_before_graver_reasons(cli: Cli) -> None:
    with Store(cli.cwd / "latbench.db") as store:
        leave(store, killed(), [begun(0)])
    lines = cli.here("report", "r1").out.splitlines()
    assert lines[0] == "verdict: invalid"
    assert lines[1].startswith("suspect: unfinished; the run never ended")


def test_a_report_of_a_run_that_is_going_on_or_was_started_elsewhere_says_which(store: Store) -> None:
    alive = {"name": HERE, "pid": str(os.getpid()), "pid_started": process_started(os.getpid()) or ""}
    leave(store, killed("alive", host=alive), [ended(0)])
    leave(store, killed("far", host={"name": "far"}, steps=[]), [])
    said = {}
    for name in ("alive", "far"):
        record = store.load_run(name)
        reasons = summary_of(store, record)["validity"]["reasons"]
        said[name] = next(reason["advice"] for reason in reasons if reason["code"] == "unfinished")
        assert store.load_run(name) == record
    assert f"still going on (process {os.getpid()})" in said["alive"]
    assert "recover" not in said["alive"]
    assert "it was started on far" in said["far"]
    assert "latbench runs recover far" in said["far"]


def test_the_list_says_which_runs_were_killed_and_what_to_do(cli: Cli) -> None:
    alive = {"name": HERE, "pid": str(os.getpid()), "pid_started": process_started(os.getpid()) or ""}
    with Store(cli.cwd / "latbench.db") as store:
        leave(store, killed("dead"), [ended(0)])
        leave(store, killed("alive", host=alive), [])
        leave(store, killed("far", host={"name": "far\x1b[31maway"}), [])
        leave(store, over(id="done"), [])
    done = cli.here("runs", "list")
    state = {line.split()[0]: line.split()[3:6] for line in done.out.splitlines()[1:]}
    assert state == {
        "dead": ["killed", "–", "–"],
        "alive": ["running", "–", "–"],
        "far": ["running?", "–", "–"],
        "done": ["complete", "0", "2"],
    }
    assert "run dead was killed and never ended: `latbench runs recover dead`" in done.err
    assert "run far was started on faraway; if it was killed there: latbench runs recover far" in done.err
    assert done.err.count("\n") == 2
    listed = {run["id"]: run["killed"] for run in cli.here("runs", "list", "--json").summary["runs"]}
    assert listed == {"dead": True, "alive": False, "far": None, "done": False}


def test_runs_are_deleted_all_or_none(cli: Cli) -> None:
    """Not one that is going on; what is in brackets is no markup of the list's."""
    alive = {"name": HERE, "pid": str(os.getpid()), "pid_started": process_started(os.getpid()) or ""}
    with Store(cli.cwd / "latbench.db") as store:
        leave(store, killed("dead"), [ended(0)])
        leave(store, killed("alive", host=alive), [])
        leave(store, over(id="done", name="x[/INST] [fp8]", directory="runs/done"), [])
    assert "x[/INST] [fp8]" in " ".join(cli.here("runs", "list").out.split())
    refused = cli.here("runs", "rm", "dead", "alive")
    assert (refused.code, refused.out) == (2, "")
    assert f"run alive is still going on (process {os.getpid()}); stop it first" in refused.err
    assert cli.here("runs", "rm", "dead", "nobody").code == 2
    done = cli.here("runs", "rm", "dead", "do", "done")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "run dead (name) is deleted",
        "run done (x[/INST] [fp8]) is deleted; its run directory runs/done is left",
    ]
    assert [one["id"] for one in cli.here("runs", "list", "--json").summary["runs"]] == ["alive"]

"""The store on real files: what is in it after a repeat, a kill, a reader beside the writer, a full disk."""

import contextlib
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import latbench
from latbench.model.errors import UserError
from latbench.model.frames import Effort
from latbench.model.request import Message, Prompt
from latbench.model.run import RunRecord, StepRecord
from latbench.model.sample import Attempt, Outcome, Sample
from latbench.store.errors import StoreError
from latbench.store.sqlite import _OF_A_RUN, _SCHEMA, SCHEMA_VERSION, Store, StoredPrompt, _use_wal

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(latbench.__file__).parent.parent)}


def run_record(run_id: str = "r1", started_at: str = "2026-01-01T00:00:00Z", **fields: object) -> RunRecord:
    record = RunRecord(run_id, "name", "scenario", "0" * 64, {"seed": 7}, started_at, 2, 7)
    return msgspec.structs.replace(record, **fields)


def sample(seq: int = 0, outcome: str = "ok", endpoint: str = "e", step: int = 0, **fields: object) -> Sample:
    return msgspec.structs.replace(Sample(endpoint, step, seq, "p1", "measure", outcome), **fields)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "latbench.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as opened:
        yield opened


@pytest.fixture
def begun(store: Store) -> Store:
    store.begin_run(run_record(), [])
    return store


def test_a_run_comes_back_as_it_was(store: Store) -> None:
    run = run_record(
        window="peak",
        labels={"region": "eu"},
        endpoints={"e": {"model": "m"}},
        steps=[StepRecord(0, "closed", 4, None, 23, 0, 0, 10**12)],
        stops=[("e", "error share")],
        notes=[{"code": "x", "value": 1.5}],
    )
    store.begin_run(run, [])
    assert store.load_run("r1") == run
    run = msgspec.structs.replace(run, state="complete", duration_s=75.0, window=None)
    store.update_run(run)
    assert store.load_run("r1") == run
    assert store.list_runs() == [run]


def test_what_sql_can_see_of_a_run_is_kept_up_to_date(store: Store, path: Path) -> None:
    store.begin_run(run_record(), [])
    store.update_run(run_record(state="partial", window="peak"))
    connection = sqlite3.connect(path)
    assert connection.execute('SELECT state, "window" FROM runs').fetchall() == [("partial", "peak")]
    connection.close()


def test_a_run_that_was_not_begun_is_a_bug(store: Store) -> None:
    with pytest.raises(LookupError, match="r1"):
        store.update_run(run_record())
    with pytest.raises(sqlite3.IntegrityError):
        store.add_samples("r1", [sample()])
    store.begin_run(run_record(), [])
    with pytest.raises(sqlite3.IntegrityError):
        store.begin_run(run_record(), [])
    assert store.add_samples("r1", [sample()]) == 1, "the failed transactions are closed"


def test_prompts_are_kept_without_their_text(store: Store) -> None:
    prompts = [
        Prompt(name, "review", "go", (Message("user", "SECRET"),), 12, "ab" * 32, tags=("x", "y,z")) for name in "ba"
    ]
    store.begin_run(run_record(), prompts)
    assert store.prompts("r1") == [StoredPrompt(name, "review", "go", ("x", "y,z"), 12, "ab" * 32) for name in "ab"]
    assert store.prompts("other") == []


def test_every_field_of_a_sample_has_a_column(begun: Store, path: Path) -> None:
    connection = sqlite3.connect(path)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(samples)")]
    connection.close()
    assert columns == ["run_id", *(name for name in Sample.__struct_fields__ if name not in ("text", "tries", "grade"))]


OPTIONAL_NS = st.none() | st.integers(0, 2**63 - 1)
HEADROOMS = st.dictionaries(st.sampled_from(["requests", "tokens"]), st.tuples(OPTIONAL_NS, OPTIONAL_NS, OPTIONAL_NS))
TRIES = st.builds(
    Attempt,
    st.integers(0, 3),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
    st.just("rate_limited"),
    wait_ns=OPTIONAL_NS,
    headroom=HEADROOMS,
)
SAMPLES = st.builds(
    Sample,
    endpoint=st.sampled_from(["a", "b"]),
    step=st.integers(0, 2),
    seq=st.integers(0, 9),
    prompt_id=st.text(),
    phase=st.sampled_from(["warmup", "measure"]),
    outcome=st.sampled_from([outcome.value for outcome in Outcome] + ["lost"] * 8),
    due_ns=st.integers(0, 2**63 - 1),
    sent_ns=OPTIONAL_NS,
    done_ns=OPTIONAL_NS,
    gaps=st.binary(),
    output_tokens=st.none() | st.integers(0, 2**53),
    reasoning_streamed=st.booleans(),
    new_connection=st.booleans(),
    error_message=st.none() | st.text(),
    model=st.none() | st.text(),
    tries=st.just([]) | st.lists(TRIES, max_size=3),
    headroom=HEADROOMS,
    valid=st.none() | st.booleans(),
).map(lambda one: one if one.outcome != "lost" else msgspec.structs.replace(one, tries=[]))


@given(st.lists(st.lists(SAMPLES, max_size=6), max_size=5))
def test_merging_batches_in_any_number_gives_the_first_fate_of_each_request(batches: list[list[Sample]]) -> None:
    expected: dict[tuple[str, int, int], Sample] = {}
    with Store(Path(":memory:")) as store:
        store.begin_run(run_record(), [])
        for batch in batches:
            stored = 0
            for one in batch:
                known = expected.get(one.key)
                if known is None or (known.outcome == "lost" and one.outcome != "lost"):
                    expected[one.key] = one
                    stored += 1
            assert store.add_samples("r1", batch) == stored
            assert store.add_samples("r1", batch) == 0, "merging it twice changes nothing"
        assert list(store.samples("r1")) == [expected[key] for key in sorted(expected)]


def test_text_is_not_stored(begun: Store, path: Path) -> None:
    begun.add_samples("r1", [sample(text="SECRET", text_chars=6)])
    assert next(begun.samples("r1")).text is None
    assert b"SECRET" not in path.read_bytes() + path.with_name("latbench.db-wal").read_bytes()


def test_runs_do_not_mix(begun: Store) -> None:
    begun.begin_run(run_record("r2"), [])
    assert begun.add_samples("r1", [sample(1), sample(2)]) == 2
    assert begun.add_samples("r2", [sample(1, "timeout")]) == 1
    assert begun.add_samples("r2", []) == 0
    assert [one.outcome for one in begun.samples("r2")] == ["timeout"]


def test_a_removed_run_leaves_no_row_and_other_runs_lose_none(begun: Store, path: Path) -> None:
    begun.begin_run(run_record("r2"), [Prompt("p1", "t", "go", (Message("user", "hello"),), 1, "ab" * 32)])
    for run_id in ("r1", "r2"):
        begun.add_samples(run_id, [sample(1), sample(2, tries=[Attempt(0, 1, 2, "rate_limited")])])
        begun.add_effort(run_id, "w1", 1, 0, Effort(0, 1, 2, 3, b"", b""))
    with contextlib.closing(sqlite3.connect(path)) as reader:
        tables = [name for (name,) in reader.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        of_a_run = [
            name for name in tables if "run_id" in (row[1] for row in reader.execute(f"PRAGMA table_info({name})"))
        ]
        assert sorted(of_a_run) == sorted(_OF_A_RUN)
        before = {name: reader.execute(f"SELECT * FROM {name}").fetchall() for name in of_a_run}
        begun.remove_run("r1")
        after = {name: reader.execute(f"SELECT * FROM {name}").fetchall() for name in of_a_run}
    assert after == {name: [row for row in rows if row[0] == "r2"] for name, rows in before.items()}
    assert {name: len(before[name]) - len(after[name]) for name in ("samples", "attempts", "efforts")} == {
        "samples": 2,
        "attempts": 1,
        "efforts": 1,
    }
    assert [run.id for run in begun.list_runs()] == ["r2"]


ROWS = st.lists(
    st.builds(
        sample,
        seq=st.integers(0, 40),
        outcome=st.sampled_from(["ok", "lost", "dropped"]),
        endpoint=st.sampled_from("ab"),
        step=st.integers(0, 1),
        worker=st.sampled_from(["w1", "w2"]),
        slot=st.integers(0, 3),
        phase=st.sampled_from(["warmup", "measure"]),
    ),
    unique_by=lambda row: (row.endpoint, row.step, row.seq),
    max_size=40,
)


@given(ROWS)
def test_what_is_known_of_a_lost_worker_is_counted_from_its_rows(rows: list[Sample]) -> None:
    """Whatever became of them: `lost` was begun, too. Twice in the store is once, and other runs are not looked at."""
    with Store(Path(":memory:")) as store:
        for run_id in ("r1", "r2"):
            store.begin_run(run_record(run_id), [])
        store.add_samples("r1", rows)
        store.add_samples("r1", rows)
        store.add_samples("r2", [sample(99, worker="w1", slot=0)])
        for worker, step in itertools.product(("w1", "w2", "w3"), range(3)):
            own = [row for row in rows if (row.worker, row.step) == (worker, step)]
            assert store.begun("r1", worker, step) == Counter(row.slot for row in own)
            assert store.planned("r1", worker, step) == Counter(f"{row.endpoint}/{row.phase}" for row in own)
        for endpoint, step in itertools.product("abc", range(3)):
            there = [row.seq for row in rows if (row.endpoint, row.step) == (endpoint, step)]
            assert list(store.sequences("r1", endpoint, step)) == sorted(there)


def test_a_request_that_was_salvaged_and_came_after_all_is_one(begun: Store) -> None:
    """A row that is replaced by its fate stays its worker's, and is not counted again."""
    begun.add_samples("r1", [sample(seq, "lost", worker="w1", slot=1) for seq in (1, 3)])
    begun.add_samples("r1", [sample(3, "ok", worker="w1", slot=1)])
    assert begun.begun("r1", "w1", 0) == {1: 2}
    assert begun.planned("r1", "w1", 0) == {"e/measure": 2}
    assert list(begun.sequences("r1", "e", 0)) == [1, 3]


def test_a_run_is_found_by_id_prefix_and_latest(store: Store) -> None:
    for run_id, started_at in [("abc1", "2026-01-02"), ("abd2", "2026-01-03"), ("ab", "2026-01-01"), ("x%", "2025")]:
        store.begin_run(run_record(run_id, started_at), [])
    assert store.load_run("latest").id == "abd2"
    assert store.load_run("abc").id == "abc1"
    assert store.load_run("ab").id == "ab", "a whole id is meant, though others begin with it"
    assert store.load_run("x").id == "x%"
    assert [run.id for run in store.list_runs(2)] == ["abd2", "abc1"]
    with pytest.raises(UserError, match=r"latbench.db: 'a' begins more than one run's id: abd2, abc1, ab; give more"):
        store.load_run("a")
    with pytest.raises(UserError, match=r"no run has an id that begins with '%'; the newest are abd2, abc1, ab, x%"):
        store.load_run("%")


def test_candidates_are_few(store: Store) -> None:
    for number in range(9):
        store.begin_run(run_record(f"id{number}"), [])
    with pytest.raises(UserError, match=r"id8, id7, id6, id5, id4 and more; give more"):
        store.load_run("id")


def test_of_runs_that_started_together_the_later_entry_is_the_latest(store: Store) -> None:
    store.begin_run(run_record("b"), [])
    store.begin_run(run_record("a"), [])
    assert store.load_run("latest").id == "a"


def test_an_empty_store_says_so(store: Store) -> None:
    with pytest.raises(UserError, match="holds no run"):
        store.load_run("latest")
    with pytest.raises(UserError, match="holds no run"):
        store.load_run("r1")


def test_a_store_that_must_exist_is_not_made(path: Path) -> None:
    with pytest.raises(UserError, match=r"latbench.db: there is no store here"):
        Store(path, must_exist=True)
    assert not path.exists()
    Store(path).close()
    Store(path, must_exist=True).close()


def test_files_that_are_not_ours_stay_as_they_are(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be looked at\n" * 50)
    other = tmp_path / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    for path, words in [(text, "cannot be used as a store"), (other, "is not a latbench store")]:
        before = path.read_bytes()
        with pytest.raises(UserError, match=words):
            Store(path)
        assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["notes.txt", "other.db"]


def test_a_newer_store_is_refused(path: Path) -> None:
    Store(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(
        UserError,
        match=rf"newer latbench \(store version {SCHEMA_VERSION + 1}, this one knows {SCHEMA_VERSION}\); upgrade",
    ):
        Store(path)


def test_places_where_no_file_can_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (tmp_path, file / "x.db", tmp_path / "absent" / "x.db"):
        with pytest.raises(UserError, match="cannot be used as a store"):
            Store(path)


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    with Store(path) as store:
        store.begin_run(run_record(), [])
    with Store(path) as store:
        assert store.load_run("r").id == "r1"


def test_a_full_disk_is_an_error_of_its_own_and_keeps_what_was_committed(begun: Store) -> None:
    begun.add_samples("r1", [sample(0)])
    (pages,) = begun._connection.execute("PRAGMA page_count").fetchone()
    begun._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match=r"latbench.db: the store failed \(database or disk is full\)") as caught:
        begun.add_samples("r1", [sample(seq, gaps=b"4" + bytes(4096)) for seq in range(1, 50)])
    assert caught.value.exit_code == 1
    assert [one.seq for one in begun.samples("r1")] == [0]
    begun._connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
    assert begun.add_samples("r1", [sample(1)]) == 1


def test_a_damaged_file_is_an_error_of_its_own(begun: Store, path: Path) -> None:
    begun.add_samples("r1", [sample(seq, gaps=b"4" + bytes(400)) for seq in range(100)])
    begun.close()
    data = bytearray(path.read_bytes())
    kept = 4096 * 16  # the pages of an empty store say what tables there are
    data[kept:] = b"\xff" * (len(data) - kept)
    path.write_bytes(data)
    with Store(path) as store, pytest.raises(StoreError, match="the store failed"):
        list(store.samples("r1"))


KILLED = """
import sys
from pathlib import Path
from latbench.model.run import RunRecord
from latbench.model.sample import Sample
from latbench.store.sqlite import _SCHEMA, Store
store = Store(Path(sys.argv[1]))
store.begin_run(RunRecord("r1", "n", "s", "0", {}, "2026-01-01T00:00:00Z", 1, 0), [])
for batch in range(4):
    store.add_samples("r1", [Sample("e", 0, batch * 100 + i, "p", "measure", "ok") for i in range(100)])
print("stored", flush=True)
sys.stdin.read()
"""


def test_what_was_stored_survives_a_kill(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"stored\n"
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    with Store(path, must_exist=True) as store:
        assert [one.seq for one in store.samples("r1")] == list(range(400))
        assert store.load_run("latest").state == "running"


READER = """
import sys
from pathlib import Path
from latbench.store.sqlite import _SCHEMA, Store
with Store(Path(sys.argv[1]), must_exist=True) as store:
    for line in sys.stdin:
        print(sum(1 for _ in store.samples("r1")), flush=True)
"""


def test_two_processes_read_while_one_writes(begun: Store, path: Path) -> None:
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
        )
        for _ in range(2)
    ]
    try:
        half_read = begun.samples("r1")
        for batch in range(3):
            begun.add_samples("r1", [sample(batch * 50 + seq) for seq in range(50)])
            for reader in readers:
                assert reader.stdin is not None
                assert reader.stdout is not None
                reader.stdin.write(b"\n")
                reader.stdin.flush()
                assert int(reader.stdout.readline()) == 50 * (batch + 1)
            # A reader that stands still in the middle must not hold up the writer either.
            next(half_read)
    finally:
        for reader in readers:
            reader.communicate()
            assert reader.returncode == 0


def test_processes_that_make_the_same_store_at_once_agree(path: Path) -> None:
    script = "import sys; from pathlib import Path; from latbench.store.sqlite import Store; sys.stdin.read(1);"
    script += "Store(Path(sys.argv[1])).close()"
    children = [
        subprocess.Popen([sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, env=ENVIRONMENT)
        for _ in range(4)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"x")
        child.stdin.flush()
    for child in children:
        child.communicate()
    assert [child.returncode for child in children] == [0] * 4
    Store(path, must_exist=True).close()


class Contended(sqlite3.Connection):
    """Refuses the switch to WAL as SQLite does while another process is making it."""

    refusals = 0

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if "WAL" in sql and self.refusals:
            self.refusals -= 1
            raise sqlite3.OperationalError("database is locked")
        return super().execute(sql, parameters)


@pytest.mark.parametrize("refusals", [0, 1, 5, 6])
def test_the_switch_to_wal_is_tried_again(path: Path, refusals: int) -> None:
    connection = sqlite3.connect(path, isolation_level=None, factory=Contended)
    connection.refusals = refusals
    with pytest.raises(sqlite3.OperationalError, match="locked") if refusals > 5 else contextlib.nullcontext():
        _use_wal(connection)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete" if refusals > 5 else "wal",)
    connection.close()


def test_a_process_that_lost_the_race_to_make_the_tables_finds_them(path: Path) -> None:
    with Store(path) as store:
        store._bring_up_to_date()
        store.begin_run(run_record(), [])


def test_a_store_of_the_first_version_is_brought_up_to_date(path: Path) -> None:
    old = sqlite3.connect(path)
    for statement in _SCHEMA:
        old.execute(statement)
    record = run_record()
    old.execute(
        "INSERT INTO runs VALUES (?, ?, ?, ?, NULL, ?)", ("r1", "n", "t", "complete", msgspec.json.encode(record))
    )
    columns = [row[1] for row in old.execute("PRAGMA table_info(samples)")]
    one = sample(3)
    values = ["r1", *(getattr(one, name) for name in columns[1:])]
    old.execute(f"INSERT INTO samples VALUES ({', '.join('?' * len(values))})", values)
    with Store(path.with_name("new.db")) as new:
        application = new._pragma("application_id")
    old.execute(f"PRAGMA application_id = {application}")
    old.execute("PRAGMA user_version = 1")
    old.commit()
    old.close()
    for _ in range(2):
        with Store(path) as store:
            assert list(store.samples("r1")) == [one]
            assert store._pragma("user_version") == SCHEMA_VERSION


def test_a_store_without_tool_calls_gets_them(path: Path) -> None:
    one = sample(3)
    two = msgspec.structs.replace(sample(4), tool_calls=2, tools_parallel_ns=5, tools_sequential_ns=9)
    with Store(path) as store:
        store.begin_run(run_record(), [])
        store.add_samples("r1", [one])
    old = sqlite3.connect(path)
    for name in ("tool_calls", "tools_parallel_ns", "tools_sequential_ns"):
        old.execute(f"ALTER TABLE samples DROP COLUMN {name}")
    for name in ("efforts", "needle_trials", "needle_answers"):
        old.execute(f"DROP TABLE {name}")
    old.execute("PRAGMA user_version = 2")
    old.commit()
    old.close()
    with Store(path) as store:
        store.add_samples("r1", [two])
        assert list(store.samples("r1")) == [one, two]


EFFORTS = st.builds(Effort, *(st.integers(0, 2**53) for _ in range(4)), st.binary(max_size=12), st.binary(max_size=12))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 6), EFFORTS), max_size=12))
def test_an_effort_is_kept_once_however_often_it_comes(told: list[tuple[str, int, Effort]]) -> None:
    """The first that comes under a worker's number is the one that was committed: a batch never changes."""
    with TemporaryDirectory() as folder, Store(Path(folder) / "s.db") as store:
        store.begin_run(run_record(), [])
        store.begin_run(run_record("r2"), [])
        expected: dict[tuple[str, int], Effort] = {}
        for worker, number, effort in told:
            expected.setdefault((worker, number), effort)
            for _ in range(2):
                store.add_effort("r1", worker, number, 3, effort)
        assert list(store.efforts("r1")) == [
            (worker, 3, expected[worker, number]) for worker, number in sorted(expected)
        ]
        assert list(store.efforts("r2")) == []


def test_an_older_store_knows_no_efforts(path: Path) -> None:
    with Store(path) as store:
        store.begin_run(run_record(), [])
    connection = sqlite3.connect(path)
    for name in ("efforts", "needle_trials", "needle_answers"):
        connection.execute(f"DROP TABLE {name}")
    connection.execute("PRAGMA user_version = 3")
    connection.close()
    with Store(path) as store:
        assert list(store.efforts("r1")) == []

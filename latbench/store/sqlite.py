"""The store: every run with its provenance, its prompts and its samples, in one SQLite file.

A batch is one transaction and is committed when `add_samples` returns, so that a killed process loses nothing it was
told is stored. Merging the same batch twice changes nothing; only a request that was given up as `lost` is replaced by
what did become of it. WAL mode lets reports and the exporter read while a run writes; `synchronous=NORMAL` survives the
death of the process, though the last batches may be missing after a loss of power.

Only the text that answered a needle trial has a column. Nothing here deletes. A file that is not ours is refused
before a byte of it changes.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from latbench.model.courtesy import let_engines_go
from latbench.model.errors import UserError
from latbench.model.frames import Effort
from latbench.model.needle import Grade
from latbench.model.request import Prompt
from latbench.model.run import RunRecord
from latbench.model.sample import Attempt, Headroom, Outcome, Sample
from latbench.needle.trial import Planned
from latbench.store.errors import StoreError

SCHEMA_VERSION = 5

_APPLICATION_ID = 0x4C415442  # "LATB"; tells our files from other SQLite files
_BUSY_S = 10.0
_WAL_TRIES = 5
_CANDIDATES = 5

_SCHEMA = (
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        started_at TEXT NOT NULL,
        state TEXT NOT NULL,
        "window" TEXT,
        record TEXT NOT NULL -- the whole RunRecord, JSON
    )
    """,
    """
    CREATE TABLE prompts (
        run_id TEXT NOT NULL REFERENCES runs (id),
        prompt_id TEXT NOT NULL,
        task TEXT NOT NULL,
        language TEXT NOT NULL,
        tags TEXT NOT NULL, -- JSON list
        tokens INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        PRIMARY KEY (run_id, prompt_id)
    )
    """,
    """
    CREATE TABLE samples (
        run_id TEXT NOT NULL REFERENCES runs (id),
        endpoint TEXT NOT NULL,
        step INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        prompt_id TEXT NOT NULL,
        phase TEXT NOT NULL,
        outcome TEXT NOT NULL,
        worker TEXT NOT NULL,
        slot INTEGER NOT NULL,
        due_ns INTEGER NOT NULL,
        sent_ns INTEGER,
        connected_ns INTEGER,
        headers_ns INTEGER,
        first_byte_ns INTEGER,
        first_token_ns INTEGER,
        first_text_ns INTEGER,
        last_token_ns INTEGER,
        done_ns INTEGER,
        chunks INTEGER NOT NULL,
        gaps BLOB NOT NULL, -- see model/sample.py, encode_gaps
        input_tokens INTEGER,
        output_tokens INTEGER,
        reasoning_tokens INTEGER,
        cached_tokens INTEGER,
        token_source TEXT NOT NULL,
        reasoning_streamed INTEGER NOT NULL,
        status INTEGER,
        kind TEXT,
        error_code TEXT,
        error_message TEXT,
        wait_ns INTEGER,
        finish_reason TEXT,
        request_id TEXT,
        model TEXT,
        fingerprint TEXT,
        nonce TEXT NOT NULL,
        output_mode TEXT NOT NULL,
        new_connection INTEGER NOT NULL,
        reconnects INTEGER NOT NULL,
        text_chars INTEGER NOT NULL,
        text_sha256 TEXT NOT NULL,
        PRIMARY KEY (run_id, endpoint, step, seq)
    )
    """,
)

_OF_A_RUN = ("needle_answers", "needle_trials", "efforts", "attempts", "samples", "prompts")  # its rows besides its own

# What came after a version: an older store gets it when it is opened.
_SINCE_1 = (
    "ALTER TABLE samples ADD COLUMN key_index INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE samples ADD COLUMN waited_ns INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE samples ADD COLUMN headroom TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE samples ADD COLUMN reference_tokens INTEGER",
    "ALTER TABLE samples ADD COLUMN valid INTEGER",
    "ALTER TABLE samples ADD COLUMN met INTEGER",
    """
    CREATE TABLE attempts ( -- those before the one that the sample tells of
        run_id TEXT NOT NULL REFERENCES runs (id),
        endpoint TEXT NOT NULL,
        step INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        number INTEGER NOT NULL,
        key_index INTEGER NOT NULL,
        sent_ns INTEGER NOT NULL,
        done_ns INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        status INTEGER,
        kind TEXT,
        error_code TEXT,
        wait_ns INTEGER,
        request_id TEXT,
        headroom TEXT NOT NULL,
        PRIMARY KEY (run_id, endpoint, step, seq, number)
    )
    """,
)

_SINCE_2 = (
    "ALTER TABLE samples ADD COLUMN tool_calls INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE samples ADD COLUMN tools_parallel_ns INTEGER",
    "ALTER TABLE samples ADD COLUMN tools_sequential_ns INTEGER",
)

_SINCE_3 = (
    """
    CREATE TABLE efforts ( -- of an engine between two of its batches: see model/frames.py, Effort
        run_id TEXT NOT NULL REFERENCES runs (id),
        worker TEXT NOT NULL,
        number INTEGER NOT NULL,
        step INTEGER NOT NULL,
        from_ns INTEGER NOT NULL,
        to_ns INTEGER NOT NULL,
        cpu_ns INTEGER NOT NULL,
        occupied_ns INTEGER NOT NULL,
        probe BLOB NOT NULL,
        chunk BLOB NOT NULL,
        PRIMARY KEY (run_id, worker, number)
    ) WITHOUT ROWID
    """,
)

_SINCE_4 = (
    """
    CREATE TABLE needle_trials ( -- every trial that a run planned, in the order of sending
        run_id TEXT NOT NULL REFERENCES runs (id),
        number INTEGER NOT NULL,
        round INTEGER NOT NULL,
        prompt_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        control TEXT NOT NULL,
        length INTEGER NOT NULL, -- asked for, in the endpoint's tokens
        stratum REAL,
        depth REAL NOT NULL, -- of the answer-bearing line in the prompt as it was sent
        tokens INTEGER NOT NULL, -- of all messages, o200k_base
        planned TEXT NOT NULL, -- the whole of it with its recipe, JSON
        PRIMARY KEY (run_id, prompt_id)
    )
    """,
    """
    CREATE TABLE needle_answers (
        run_id TEXT NOT NULL REFERENCES runs (id),
        endpoint TEXT NOT NULL,
        step INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        prompt_id TEXT NOT NULL,
        outcome TEXT NOT NULL, -- see model/needle.py, TrialOutcome
        grade TEXT NOT NULL, -- the whole of it, JSON
        answer TEXT, -- the text, capped
        PRIMARY KEY (run_id, endpoint, step, seq)
    )
    """,
)

_KEY = ("run_id", "endpoint", "step", "seq")
_FIELDS = tuple(name for name in Sample.__struct_fields__ if name not in ("text", "tries", "grade"))
_HEADROOM = _FIELDS.index("headroom")
_FLAGS = ("reasoning_streamed", "new_connection", "valid", "met")
_COLUMNS = ", ".join(_FIELDS)
_SET = ", ".join(f"{name} = excluded.{name}" for name in _FIELDS if name not in _KEY)
_INSERT_SAMPLE = f"""
    INSERT INTO samples (run_id, {_COLUMNS}) VALUES ({", ".join("?" * (len(_FIELDS) + 1))})
    ON CONFLICT ({", ".join(_KEY)}) DO UPDATE SET {_SET}
    WHERE samples.outcome = '{Outcome.LOST.value}' AND excluded.outcome <> '{Outcome.LOST.value}'
"""
_TRIES = Attempt.__struct_fields__
_INSERT_TRY = f"""
    INSERT INTO attempts (run_id, endpoint, step, seq, number, {", ".join(_TRIES)})
    VALUES ({", ".join("?" * (len(_TRIES) + 5))})
"""
_INSERT_TRIAL = f"INSERT INTO needle_trials VALUES ({', '.join('?' * 11)})"
_INSERT_ANSWER = f"INSERT OR IGNORE INTO needle_answers VALUES ({', '.join('?' * 8)})"

_EFFORT = Effort.__struct_fields__
_INSERT_EFFORT = f"""
    INSERT INTO efforts (run_id, worker, number, step, {", ".join(_EFFORT)})
    VALUES ({", ".join("?" * (len(_EFFORT) + 4))})
    ON CONFLICT DO NOTHING
"""


class StoredPrompt(msgspec.Struct, frozen=True):
    """What the store keeps of a prompt: enough to slice by, and the hash that says whether it was the same."""

    id: str
    task: str
    language: str
    tags: tuple[str, ...]
    tokens: int
    sha256: str


class Store:
    """One store file, made where there is none unless `must_exist`.

    Raises UserError where `path` cannot be a store of ours. Every method raises StoreError where the disk fails.
    """

    def __init__(self, path: Path, *, must_exist: bool = False) -> None:
        self.path = path
        if must_exist and not path.exists():
            raise UserError(f"{path}: there is no store here; name one with --store, or measure first (latbench run)")
        try:
            self._connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        except sqlite3.OperationalError as error:
            raise self._unusable(error) from error
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self.close()
            raise self._unusable(error) from error
        except UserError:
            self.close()
            raise

    def _unusable(self, error: sqlite3.DatabaseError) -> UserError:
        return UserError(f"{self.path}: cannot be used as a store ({error}); name another file with --store")

    def _open(self) -> None:
        found = self._found_version()
        _use_wal(self._connection)
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        if found < SCHEMA_VERSION:
            self._bring_up_to_date()

    def _found_version(self) -> int:
        """The version of our tables, 0 where there are none yet. Raises UserError for other files."""
        if not self._pragma("schema_version"):
            return 0
        if self._pragma("application_id") != _APPLICATION_ID:
            raise UserError(f"{self.path}: is not a latbench store; name another file with --store")
        version = self._pragma("user_version")
        if version > SCHEMA_VERSION:
            raise UserError(
                f"{self.path}: was written by a newer latbench (store version {version}, this one knows"
                f" {SCHEMA_VERSION}); upgrade latbench or name another file with --store"
            )
        return version

    def _pragma(self, name: str) -> int:
        (value,) = self._connection.execute(f"PRAGMA {name}").fetchone()
        return int(value)

    def _bring_up_to_date(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        found = self._found_version()  # another process may have done it while this one waited
        for version, statements in ((1, _SCHEMA), (2, _SINCE_1), (3, _SINCE_2), (4, _SINCE_3), (5, _SINCE_4)):
            for statement in statements if found < version else ():
                self._connection.execute(statement)
        self._connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Closes the file; what was committed is there."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """IntegrityError stays what it is: a bug of ours."""
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{self.path}: the store failed ({error})") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything or nothing. IMMEDIATE, because a transaction that turns from reading to writing cannot wait."""
        with self._guarded():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                # A full disk has sometimes rolled back already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def begin_run(self, run: RunRecord, prompts: Iterable[Prompt], trials: Iterable[Planned] = ()) -> None:
        """A new run and the prompts it may draw, each once; needle trials in the order in which they are sent."""
        with self._transaction() as connection:
            connection.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?)", _run_row(run))
            connection.executemany(
                "INSERT INTO prompts VALUES (?, ?, ?, ?, ?, ?, ?)", (_prompt_row(run.id, prompt) for prompt in prompts)
            )
            connection.executemany(_INSERT_TRIAL, (_trial_row(run.id, trial) for trial in trials))

    def update_run(self, run: RunRecord) -> None:
        """Replaces the record of a run. Raises LookupError for one that was not begun."""
        with self._transaction() as connection:
            updated = connection.execute(
                'UPDATE runs SET name = ?2, started_at = ?3, state = ?4, "window" = ?5, record = ?6 WHERE id = ?1',
                _run_row(run),
            )
            if updated.rowcount != 1:
                raise LookupError(f"run {run.id} is not in {self.path}")

    def remove_run(self, run_id: str) -> None:
        """Delete a run and all that is stored of it. The file keeps its size: what is freed is used again."""
        with self._transaction() as connection:
            for table in _OF_A_RUN:
                connection.execute(f"DELETE FROM {table} WHERE run_id = ?", (run_id,))
            connection.execute("DELETE FROM runs WHERE id = ?", (run_id,))

    def add_samples(self, run_id: str, samples: Sequence[Sample]) -> int:
        """Stores and commits a batch; how many of it were new, or the fate of a request held for `lost`."""
        if not samples:
            return 0
        with self._transaction() as connection:
            stored = 0
            for tried, group in groupby(samples, key=lambda sample: bool(sample.tries)):
                if not tried:
                    rows = (_sample_row(run_id, sample) for sample in group)
                    stored += connection.executemany(_INSERT_SAMPLE, rows).rowcount
                    continue
                for sample in group:
                    if connection.execute(_INSERT_SAMPLE, _sample_row(run_id, sample)).rowcount:
                        stored += 1
                        connection.executemany(_INSERT_TRY, _try_rows(run_id, sample))
            connection.executemany(_INSERT_ANSWER, (_answer_row(run_id, one) for one in samples if one.grade))
            return stored

    def add_effort(self, run_id: str, worker: str, number: int, step: int, effort: Effort) -> None:
        """Stores and commits what an engine had to do up to its batch `number`. The same one twice changes nothing."""
        row = (run_id, worker, number, step, *(getattr(effort, name) for name in _EFFORT))
        with self._transaction() as connection:
            connection.execute(_INSERT_EFFORT, row)

    def efforts(self, run_id: str) -> Iterator[tuple[str, int, Effort]]:
        """What the engines of a run had to do, by worker and in order: worker, step, and what it was."""
        with self._guarded():
            for worker, step, *fields in self._connection.execute(
                f"SELECT worker, step, {', '.join(_EFFORT)} FROM efforts WHERE run_id = ? ORDER BY worker, number",
                (run_id,),
            ):
                yield worker, step, Effort(*fields)

    def begun(self, run_id: str, worker: str, step: int) -> dict[int, int]:
        """How many requests of each slot a worker has begun in a step."""
        with self._guarded():
            rows = self._connection.execute(
                "SELECT slot, COUNT(*) FROM samples WHERE run_id = ? AND worker = ? AND step = ? GROUP BY slot",
                (run_id, worker, step),
            )
            return dict(rows.fetchall())

    def planned(self, run_id: str, worker: str, step: int) -> dict[str, int]:
        """How many requests of a worker became due in a step, by `endpoint/phase`."""
        with self._guarded():
            rows = self._connection.execute(
                "SELECT endpoint || '/' || phase, COUNT(*) FROM samples"
                " WHERE run_id = ? AND worker = ? AND step = ? GROUP BY 1",
                (run_id, worker, step),
            )
            return dict(rows.fetchall())

    def sequences(self, run_id: str, endpoint: str, step: int) -> Iterator[int]:
        """The sequence numbers of an endpoint in a step, rising."""
        with self._guarded():
            rows = self._connection.execute(
                "SELECT seq FROM samples WHERE run_id = ? AND endpoint = ? AND step = ? ORDER BY seq",
                (run_id, endpoint, step),
            )
            for (seq,) in rows:
                yield seq

    def load_run(self, name: str) -> RunRecord:
        """The run with this id, with the only id that begins so, or `latest`, the newest start in any state.

        Raises UserError, with candidates, where that is not one run.
        """
        with self._guarded():
            if name == "latest":
                return self._latest()
            rows = self._connection.execute(
                "SELECT id, record FROM runs WHERE substr(id, 1, length(?1)) = ?1"
                " ORDER BY id <> ?1, started_at DESC, rowid DESC LIMIT ?2",
                (name, _CANDIDATES + 1),
            ).fetchall()
            if rows and (len(rows) == 1 or rows[0][0] == name):
                return _run(rows[0][1])
            if not rows:
                raise UserError(f"{self.path}: no run has an id that begins with {name!r}; {self._known()}")
            more = " and more" if len(rows) > _CANDIDATES else ""
            found = ", ".join(row[0] for row in rows[:_CANDIDATES])
            raise UserError(f"{self.path}: {name!r} begins more than one run's id: {found}{more}; give more of it")

    def _latest(self) -> RunRecord:
        row = self._connection.execute("SELECT record FROM runs ORDER BY started_at DESC, rowid DESC").fetchone()
        if row is None:
            raise UserError(f"{self.path}: the store holds no run; measure first (latbench run)")
        return _run(row[0])

    def _known(self) -> str:
        ids = [run.id for run in self.list_runs(_CANDIDATES)]
        return f"the newest are {', '.join(ids)}" if ids else "the store holds no run"

    def list_runs(self, limit: int | None = None) -> list[RunRecord]:
        """The newest runs first."""
        with self._guarded():
            rows = self._connection.execute(
                "SELECT record FROM runs ORDER BY started_at DESC, rowid DESC LIMIT ?",
                (-1 if limit is None else limit,),
            )
            return [_run(record) for (record,) in rows]

    def samples(self, run_id: str) -> Iterator[Sample]:
        """The samples of a run by endpoint, step and sequence number, without text; needle trials with their grades."""
        with self._guarded():
            tries, grades = self._tries(run_id), self._grades(run_id)
            rows = self._connection.execute(
                f"SELECT {_COLUMNS} FROM samples WHERE run_id = ? ORDER BY endpoint, step, seq", (run_id,)
            )
            for row in rows:
                sample = Sample(**dict(zip(_FIELDS, row, strict=True)))
                for name in _FLAGS:  # SQLite has no booleans
                    value = getattr(sample, name)
                    setattr(sample, name, None if value is None else bool(value))
                sample.headroom = _headroom(row[_HEADROOM])
                sample.tries = tries.get(sample.key, [])
                sample.grade = grades.get(sample.key)
                yield sample

    def _tries(self, run_id: str) -> dict[tuple[str, int, int], list[Attempt]]:
        """The attempts before the last one, by request: few requests have any."""
        found: dict[tuple[str, int, int], list[Attempt]] = {}
        columns = ", ".join(_TRIES)
        for endpoint, step, seq, *fields, headroom in self._connection.execute(
            f"SELECT endpoint, step, seq, {columns} FROM attempts WHERE run_id = ? ORDER BY number", (run_id,)
        ):
            one = Attempt(**dict(zip(_TRIES, (*fields, _headroom(headroom)), strict=True)))
            found.setdefault((endpoint, step, seq), []).append(one)
        return found

    def _grades(self, run_id: str) -> dict[tuple[str, int, int], Grade]:
        """What became of needle trials, by request."""
        rows = self._connection.execute(
            "SELECT endpoint, step, seq, grade FROM needle_answers WHERE run_id = ?", (run_id,)
        )
        return {(endpoint, step, seq): _grade.decode(grade) for endpoint, step, seq, grade in rows}

    def trials(self, run_id: str) -> list[Planned]:
        """The needle trials that a run planned, in the order of sending; none of another run."""
        with self._guarded():
            rows = self._connection.execute(
                "SELECT planned FROM needle_trials WHERE run_id = ? ORDER BY number", (run_id,)
            )
            return [_planned.decode(planned) for (planned,) in rows]

    def answers(self, run_id: str, prompt_id: str) -> list[tuple[Sample, str | None]]:
        """The requests that sent a needle trial, each with the text that was answered."""
        with self._guarded():
            texts = {
                (endpoint, step, seq): answer
                for endpoint, step, seq, answer in self._connection.execute(
                    "SELECT endpoint, step, seq, answer FROM needle_answers WHERE run_id = ? AND prompt_id = ?",
                    (run_id, prompt_id),
                )
            }
        return [(one, texts.get(one.key)) for one in self.samples(run_id) if one.prompt_id == prompt_id]

    def prompts(self, run_id: str) -> list[StoredPrompt]:
        """The prompts of a run by id."""
        with self._guarded():
            rows = self._connection.execute(
                "SELECT prompt_id, task, language, tags, tokens, sha256 FROM prompts"
                " WHERE run_id = ? ORDER BY prompt_id",
                (run_id,),
            )
            return [
                StoredPrompt(prompt_id, task, language, msgspec.json.decode(tags, type=tuple[str, ...]), tokens, sha256)
                for prompt_id, task, language, tags, tokens, sha256 in rows
            ]


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switches a new file to WAL; for one that is in WAL already nothing happens.

    Where two processes switch at once, SQLite refuses one of them without waiting. A transaction does wait.
    """
    for _ in range(_WAL_TRIES):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("COMMIT")
        else:
            return
    connection.execute("PRAGMA journal_mode = WAL")


def _run_row(run: RunRecord) -> tuple[str | None, ...]:
    return (run.id, run.name, run.started_at, run.state, run.window, msgspec.json.encode(run).decode())


def _sample_row(run_id: str, sample: Sample) -> list[object]:
    let_engines_go()
    row = [run_id, *(getattr(sample, name) for name in _FIELDS)]
    row[1 + _HEADROOM] = _json(sample.headroom)
    return row


def _try_rows(run_id: str, sample: Sample) -> Iterator[tuple[object, ...]]:
    for number, one in enumerate(sample.tries):
        fields = (getattr(one, name) for name in _TRIES[:-1])
        yield (run_id, *sample.key, number, *fields, _json(one.headroom))


def _trial_row(run_id: str, trial: Planned) -> tuple[object, ...]:
    recipe, written = trial.recipe, msgspec.json.encode(trial).decode()
    place = (run_id, trial.number, trial.round, recipe.trial, recipe.kind, recipe.control, recipe.tokens)
    return (*place, recipe.stratum, trial.depth, trial.tokens, written)


def _answer_row(run_id: str, sample: Sample) -> tuple[object, ...]:
    assert sample.grade is not None
    # What an endpoint says may be no text that can be written.
    text = None if sample.text is None else sample.text.encode("utf-8", "replace").decode()
    grade = msgspec.json.encode(sample.grade).decode()
    return (run_id, *sample.key, sample.prompt_id, sample.grade.outcome, grade, text)


_planned: msgspec.json.Decoder[Planned] = msgspec.json.Decoder(Planned)
_grade: msgspec.json.Decoder[Grade] = msgspec.json.Decoder(Grade)


def _json(headroom: Headroom) -> str:
    return msgspec.json.encode(headroom).decode() if headroom else "{}"


def _headroom(text: str) -> Headroom:
    return {} if text == "{}" else msgspec.json.decode(text, type=Headroom)


def _run(record: str) -> RunRecord:
    return msgspec.json.decode(record, type=RunRecord)


def _prompt_row(run_id: str, prompt: Prompt) -> tuple[str | int, ...]:
    tags = msgspec.json.encode(prompt.tags).decode()
    return (run_id, prompt.id, prompt.task, prompt.language, tags, prompt.tokens, prompt.sha256)

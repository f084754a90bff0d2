"""A run that something happens to: its processes by their parts, what the endpoint saw, what the store has of it.

The oracle's log is the judge. It stands on CLOCK_MONOTONIC, as a test's own `time.monotonic_ns()`; the store's times
begin with the run, and `Books.origin_ns` says when that was, as seen from the endpoint.
"""

import csv
import json
import os
import re
import signal
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness import Cli, Command, Done, Served, closes, wait_until

from latbench.model.load import Poisson, Step
from latbench.plan.arrivals import arrivals

S = 10**9
LEASE_NS = 5 * S
MARGIN_NS = S // 2
RATE = 40
SLOTS = 6


def endpoint(url: str, name: str = "m") -> dict[str, Any]:
    return {"name": name, "api": "openai-chat", "base_url": url, "model": "m"}


def load_of(shape: str, seconds: float) -> dict[str, Any]:
    """An open loop of RATE/s, or a closed one of SLOTS slots that think, so that both send about as much."""
    times = {"duration": f"{int(seconds * 1000)}ms", "warmup": "500ms"}
    if shape == "open":
        return {"shape": "poisson", "rate": f"{RATE}/s", **times}
    return {"shape": "closed", "concurrency": SLOTS, "think": "80ms", **times}


@dataclass
class Journal:
    """An oracle and its log: when each request had fully arrived."""

    served: Served
    path: Path

    def arrived(self) -> list[int]:
        """When requests had fully arrived, in order. Asked when the load is over."""
        self.served.get("/oracle/stats")  # it writes the log out
        with self.path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return sorted(int(row["t_request_ns"]) for row in rows if row["status"] != "-12")

    def quiet(self) -> list[int]:
        """As `arrived`, when the endpoint has noticed that its last client is gone."""
        wait_until(lambda: not self.served.get("/oracle/stats")["active"], 20.0)
        return self.arrived()


@dataclass(frozen=True)
class Row:
    """What the store has of a request."""

    endpoint: str
    seq: int
    slot: int
    phase: str
    outcome: str
    worker: str
    due_ns: int
    sent_ns: int | None
    done_ns: int | None


@dataclass
class Books:
    """What is to be compared when all is over."""

    rows: list[Row]
    arrived: list[int]

    @cached_property
    def origin_ns(self) -> int:
        """When the run began, as the endpoint saw it: by the first requests, which nothing had happened to."""
        sent = sorted(row.sent_ns for row in self.rows if row.sent_ns is not None)
        return int(statistics.median(there - here for there, here in zip(self.arrived[:30], sent[:30], strict=False)))

    def of(self, worker: str) -> list[Row]:
        return [row for row in self.rows if row.worker == worker]

    @property
    def workers(self) -> set[str]:
        return {row.worker for row in self.rows}

    def begun(self) -> list[Row]:
        """What may have been sent."""
        return [row for row in self.rows if row.outcome != "dropped"]

    def all_accounted_for(self) -> None:
        """Nothing arrived that is not in the store, and what has an answer did arrive."""
        answered = [row for row in self.rows if row.outcome == "ok"]
        assert len(answered) <= len(self.arrived) <= len(self.begun())

    def none_sent_after(self, worker: str, limit_ns: int) -> None:
        """By the store, no request of this worker left later than that (CLOCK_MONOTONIC)."""
        sent = [row.sent_ns for row in self.of(worker) if row.sent_ns is not None]
        assert sent
        assert max(sent) + self.origin_ns <= limit_ns

    def sent_within(self, worker: str, from_ns: int, to_ns: int) -> list[Row]:
        """What left between two moments (CLOCK_MONOTONIC)."""
        sent = [(row, row.sent_ns + self.origin_ns) for row in self.of(worker) if row.sent_ns is not None]
        return [row for row, at_ns in sent if from_ns <= at_ns <= to_ns]

    def due_within(self, from_ns: int, to_ns: int) -> list[Row]:
        """What was due between two moments (CLOCK_MONOTONIC)."""
        return [row for row in self.rows if from_ns <= row.due_ns + self.origin_ns <= to_ns]

    def every_sending_is_known(self) -> None:
        """As many requests arrived as the store has with a fate: nothing that was sent is `lost`, or missing."""
        assert len(self.arrived) == sum(row.sent_ns is not None for row in self.rows)

    def plan_is_whole(self, seconds: float, *, to_its_end: bool = True) -> None:
        """Open loop: every arrival of the plan has a row, once, due when the plan says; and there is nothing else.

        A run that was stopped has those that were due before its end.
        """
        load = Step(Poisson(float(RATE)), duration_ns=int(seconds * S), warmup_ns=S // 2)
        planned = arrivals(load, 0, 0).tolist()
        rows = sorted(self.rows, key=lambda row: row.seq)
        if not to_its_end:
            assert 0 < len(rows) < len(planned)
            planned = planned[: len(rows)]
        assert [row.seq for row in rows] == list(range(len(planned)))
        start_ns = min(row.due_ns - at for row, at in zip(rows, planned, strict=True))
        assert all(abs(row.due_ns - at - start_ns) < S // 100 for row, at in zip(rows, planned, strict=True))


@dataclass
class Scene:
    """A run under way against oracles of the test's own, in a folder of its own."""

    cli: Cli
    journals: list[Journal]
    spools: Path
    command: Command | None = None
    env: dict[str, str] = field(default_factory=dict)

    @property
    def journal(self) -> Journal:
        return self.journals[0]

    @property
    def run(self) -> Command:
        assert self.command is not None
        return self.command

    def start(
        self, shape: str, seconds: float, *more: str, workers: int = 3, urls: list[str] | None = None, **keys: Any
    ) -> Command:
        """`run` with these workers, against the first oracle or these addresses."""
        names = [self.journal.served.url] if urls is None else urls
        endpoints = [endpoint(url, f"m{number or ''}") for number, url in enumerate(names)]
        self.cli.scenario(endpoints=endpoints, load=[load_of(shape, seconds)], **keys)
        out = () if "--out" in more else ("--out", "out")
        args = ["run", "mine.yaml", "--json", *out, "--workers", str(workers), *more]
        self.command = self.cli.start(*args, env={"LATBENCH_SPOOL": str(self.spools)} | self.env)
        return self.command

    def loaded(self, store: str = "latbench.db", workers: int = 1) -> None:
        """Until every worker has something to show, with some in the measured phase."""
        sql = "SELECT count(*), count(DISTINCT worker) FROM samples WHERE phase = 'measure' AND outcome = 'ok'"

        def there() -> bool:
            assert self.run.process.poll() is None, self.run.err.read_text()
            found = self.cli.rows(sql, store=store)
            return bool(found) and found[0][0] >= 15 and found[0][1] >= workers

        wait_until(there, 60.0)

    def books(self, store: str = "latbench.db") -> Books:
        columns = "endpoint, seq, slot, phase, outcome, worker, due_ns, sent_ns, done_ns"
        rows = [Row(*row) for row in self.cli.rows(f"SELECT {columns} FROM samples ORDER BY due_ns", store=store)]
        return Books(rows, sorted(at for journal in self.journals for at in journal.quiet()))

    def nothing_is_left(self, limit_s: float = 15.0) -> None:
        wait_until(lambda: not self.cli.family(), limit_s)

    def recovered(self, store: str = "latbench.db", out: Path | None = None) -> dict[str, Any]:
        """A run that was put together, or ended by itself: it has a report, its sums close, and nothing is missing."""
        text = ((self.cli.cwd / "out" if out is None else out) / "summary.json").read_text()
        summary: dict[str, Any] = json.loads(text)
        assert closes(summary), summary["validity"]["reasons"]
        measured = sum(sum(one["outcomes"].values()) for one in summary["endpoints"].values())
        warmup = sum(summary["validity"]["warmup"]["outcomes"].values())
        books = self.books(store)
        assert measured + warmup == len(books.rows)
        books.all_accounted_for()
        return summary

    # --- the family -----------------------------------------------------------------------------------------------

    def workers(self) -> list[int]:
        return [pid for pid in self.cli.family() if " worker --master " in _line(pid)]

    def engines(self) -> list[int]:
        return [pid for pid in self.cli.family() if "latbench.engine.process" in _line(pid)]

    def engine_of(self, worker: int) -> int:
        return next(pid for pid in self.engines() if f"--parent {worker}" in _line(pid))

    def ended_invalid(self, limit_s: float = 60.0) -> dict[str, Any]:
        """The run has ended by itself, with 97 for a lost worker, its sums close and nothing is left."""
        done = self.run.wait(limit_s)
        summary = self.closed(done, 97)
        assert summary["validity"]["verdict"] == "invalid"
        assert "worker_lost" in reasons(summary)
        return summary

    def closed(self, done: Done, code: int) -> dict[str, Any]:
        assert (done.code, done.err.count("Traceback")) == (code, 0), done.err
        summary = done.summary
        assert closes(summary), summary["validity"]
        measured = sum(sum(one["outcomes"].values()) for one in summary["endpoints"].values())
        warmup = sum(summary["validity"]["warmup"]["outcomes"].values())
        assert measured + warmup == self.cli.rows("SELECT count(*) FROM samples")[0][0]
        self.nothing_is_left()
        return summary


def _line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def reasons(summary: dict[str, Any]) -> list[str]:
    return [reason["code"] for reason in summary["validity"]["reasons"]]


def lost_worker(summary: dict[str, Any]) -> str:
    """The id of the one worker that was lost."""
    (advice,) = {r["advice"] for r in summary["validity"]["reasons"] if r["code"] == "worker_lost"}
    found = re.match(r"worker (\S+): ", advice)
    assert found is not None, advice
    return found[1]


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> int:
    """Send it; when that was (CLOCK_MONOTONIC)."""
    os.kill(pid, number)
    return time.monotonic_ns()


def wait_until_ns(moment_ns: int) -> None:
    wait_until(lambda: time.monotonic_ns() >= moment_ns)


Stage = Callable[..., Scene]

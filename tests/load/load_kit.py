"""A scenario against oracles, and what both sides say of it afterwards."""

import csv
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import Cli, Command, Done, Served, closes, wait_until

SECOND = 1_000_000_000


def at(served: Served, name: str = "o", **keys: Any) -> dict[str, Any]:
    """The endpoint of a scenario."""
    return {"name": name, "api": "openai-chat", "base_url": served.url, "model": "oracle", **keys}


def step(shape: str, **keys: Any) -> dict[str, Any]:
    """A step of a load, without a warm-up unless it is asked for, where one is allowed."""
    return {"shape": shape} | ({} if "duration" not in keys else {"warmup": "0s"}) | keys


def start(cli: Cli, endpoints: list[dict[str, Any]], load: list[dict[str, Any]], *flags: str, **keys: Any) -> Command:
    cli.scenario(endpoints=endpoints, load=load, **keys)
    return cli.start("run", "mine.yaml", "--json", *flags)


def measure(cli: Cli, endpoints: list[dict[str, Any]], load: list[dict[str, Any]], *flags: str, **keys: Any) -> Done:
    """The run to its end; its arithmetic closes."""
    done = start(cli, endpoints, load, *flags, **keys).wait()
    assert done.out, done.err
    assert closes(done.summary), done.summary["validity"]
    return done


def record(cli: Cli) -> dict[str, Any]:
    """What the store has of the last run, besides its samples."""
    found: dict[str, Any] = json.loads(cli.rows("SELECT record FROM runs ORDER BY rowid DESC LIMIT 1")[0][0])
    return found


def arrivals(served: Served, path: Path) -> np.ndarray:
    """When each request had fully arrived at the oracle (CLOCK_MONOTONIC ns), in order."""
    served.get("/oracle/stats")
    with path.open(newline="") as file:
        return np.sort(np.array([int(row["t_request_ns"]) for row in csv.DictReader(file)], dtype=np.int64))


@dataclass(frozen=True)
class Stall:
    """A process that did not run from `from_ns` to `to_ns` (CLOCK_MONOTONIC)."""

    from_ns: int
    to_ns: int

    @property
    def ns(self) -> int:
        return self.to_ns - self.from_ns


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def stall(pid: int, ns: int = SECOND) -> Stall:
    """Stop a process for that long."""
    with _stopped(pid):
        wait_until(lambda: _state(pid) == "T")
        begun = time.monotonic_ns()
        wait_until(lambda: time.monotonic_ns() - begun >= ns)
        ended = time.monotonic_ns()
    return Stall(begun, ended)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def engine_of(cli: Cli) -> int:
    """The only engine of a run."""
    (found,) = [pid for pid in cli.family() if b"latbench.engine.process" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return found


@dataclass(frozen=True)
class Times:
    """Of each `ok` request, in the order in which it was due (ns, CLOCK_MONOTONIC): due, sent, last token."""

    due: np.ndarray
    sent: np.ndarray
    last: np.ndarray

    @property
    def late(self) -> np.ndarray:
        """Response time less service time."""
        return self.sent - self.due

    @property
    def service(self) -> np.ndarray:
        return self.last - self.sent

    @property
    def response(self) -> np.ndarray:
        return self.last - self.due


def times(cli: Cli, arrived: np.ndarray) -> Times:
    """The samples on the oracle's clock: it and the engine share one, whose zero is found by the quickest requests."""
    rows = cli.rows("SELECT due_ns, sent_ns, last_token_ns FROM samples WHERE outcome = 'ok' ORDER BY due_ns")
    due, sent, last = np.array(rows, dtype=np.int64).T
    assert len(sent) == len(arrived)
    origin = int(np.min(arrived - np.sort(sent)))
    return Times(due + origin, sent + origin, last + origin)

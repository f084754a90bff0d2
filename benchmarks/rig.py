"""What all benchmarks need: the oracle, one run of the command, the machine in words, a table with marks, a page."""

import json
import os
import platform
import select
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ORACLE = ROOT.parent / "shared" / "oracle" / "oracle.c"
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Oracle:
    """The independent endpoint that knows what really happened. `csv` has a row a request."""

    url: str
    csv: Path

    def reset(self) -> None:
        """Forget what was."""
        self._ask("reset", "POST")

    def stats(self) -> dict[str, Any]:
        """The truth so far; `csv` is complete after this."""
        return self._ask("stats", "GET")

    def _ask(self, what: str, method: str) -> dict[str, Any]:
        request = urllib.request.Request(f"{self.url}/oracle/{what}", method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


def need_oracle() -> None:
    """End here, and say so, where the oracle cannot be built."""
    if not ORACLE.exists() or shutil.which("cc") is None:
        print(f"{Path(sys.argv[0]).stem} skipped: needs ../shared/oracle beside the checkout, and cc")
        sys.exit(0)


@contextmanager
def oracle(folder: Path, options: Sequence[str], *, apart: bool = False) -> Iterator[Oracle]:
    """The oracle, compiled and running.

    With `apart` it gets a core for itself, and this process and whatever it starts the others: an oracle that has to
    wait for a core stamps late, and that would be taken for the client's mistake.
    """
    binary = folder / "oracle"
    if not binary.exists():
        subprocess.run(["cc", "-O2", "-w", "-o", str(binary), str(ORACLE), "-lm"], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found = Oracle(f"http://127.0.0.1:{port}", folder / f"oracle-{port}.csv")
    command = [str(binary), "--port", str(port), "--csv", str(found.csv), *options]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    cores = sorted(os.sched_getaffinity(0))
    if apart and len(cores) > 1:
        os.sched_setaffinity(process.pid, cores[-1:])
        os.sched_setaffinity(0, cores[:-1])
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
        yield found
    finally:
        os.sched_setaffinity(0, cores)
        process.terminate()
        process.wait()


def prompts(folder: Path) -> Path:
    """Prompts so short that sending them is no part of what is measured."""
    path = folder / "short.jsonl"
    path.write_text("".join(json.dumps({"id": f"p{n}", "prompt": f"Write function {n}."}) + "\n" for n in range(40)))
    return path


@dataclass(frozen=True)
class Ran:
    """What a run came to: its summary, and the store that holds it and nothing else.

    `began_ns` and `ended_ns` are the command's launch and exit, on the clock of `time.monotonic_ns`; `peak_mb` is the
    most memory that one of its processes ever had.
    """

    summary: dict[str, Any]
    store: Path
    began_ns: int
    ended_ns: int
    peak_mb: float

    @property
    def wall_s(self) -> float:
        """How long the whole command took."""
        return (self.ended_ns - self.began_ns) / 1e9

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What the store says to a question."""
        with closing(sqlite3.connect(self.store)) as connection:
            return connection.execute(sql).fetchall()

    @property
    def record(self) -> dict[str, Any]:
        """The run's record as it is stored."""
        ((found,),) = self.rows("SELECT record FROM runs")
        record: dict[str, Any] = json.loads(found)
        return record

    @property
    def endpoint(self) -> dict[str, Any]:
        """The only endpoint's part of the summary."""
        found: dict[str, Any] = next(iter(self.summary["endpoints"].values()))
        return found


def run(folder: Path, arguments: Sequence[str], watch: Callable[[int, Path], None] | None = None) -> Ran:
    """`latbench run` with these arguments, in a folder of its own.

    `watch` is called every second with the parent's id and the store.

    A run that cannot be had ends the benchmark; an invalid one (97) is judged by its figures.
    """
    out = Path(tempfile.mkdtemp(dir=folder))
    store = out / "bench.db"
    command = [sys.executable, "-m", "latbench", "run", *arguments, "--json", "--quiet"]
    began_ns = time.monotonic_ns()
    with (out / "stdout").open("wb") as stdout, (out / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [*command, "--store", str(store), "--out", str(out / "run")], stdout=stdout, stderr=stderr, cwd=out
        )
    try:
        ended = os.pidfd_open(process.pid)  # `Popen.wait` with a limit looks every 50 ms
        while not select.select([ended], [], [], 1.0)[0]:
            if watch is not None:
                watch(process.pid, store)
        ended_ns = time.monotonic_ns()
        os.close(ended)
        _, status, used = os.wait4(process.pid, 0)
        code = process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        process.kill()
        process.wait()
    if code not in (0, 97):
        sys.exit(f"latbench ended with {code}: {(out / 'stderr').read_text()}")
    return Ran(json.loads((out / "stdout").read_text()), store, began_ns, ended_ns, used.ru_maxrss / 1024)


class Memory:
    """Resident memory of a command's processes, in MB: looked at every second, by what each process is.

    `most` has for each process what it is, and the most that it had had when it was looked at last.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[float, dict[str, float]]] = []
        self.most: dict[int, tuple[str, float]] = {}

    def look(self, parent: int, _store: Path | None = None) -> None:
        """Look at the parent and at everything below it."""
        now: dict[str, float] = {}
        for pid, name in _family(parent):
            resident = _status(pid, "VmRSS")
            now[name] = max(now.get(name, 0.0), resident / 1024)
            self.most[pid] = name, _status(pid, "VmHWM") / 1024
        self.seen.append((time.monotonic(), now))

    @property
    def peak_mb(self) -> dict[str, float]:
        """The most that was seen of each kind of process; of several of one kind, the largest."""
        names = {name for _, now in self.seen for name in now}
        return {name: max(now.get(name, 0.0) for _, now in self.seen) for name in sorted(names)}


def _family(parent: int) -> Iterator[tuple[int, str]]:
    """The processes of a command, and what each of them is."""
    yield parent, "parent"
    parents = {
        int(entry.name): _status(int(entry.name), "PPid") for entry in Path("/proc").iterdir() if entry.name.isdigit()
    }
    found = {parent}
    while more := {pid for pid, above in parents.items() if above in found} - found:
        found |= more
    for pid in found - {parent}:
        with suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"latbench.engine" in line:
                yield pid, "engine"
            elif b"latbench" in line:
                yield pid, "worker"


def _status(pid: int, name: str) -> int:
    """A number of `/proc/<pid>/status`; 0 where the process has gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    return 0


def machine() -> str:
    """What was measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return f"{os.cpu_count()} cores, {model}, Linux {platform.release()}, Python {platform.python_version()}"


def made() -> str:
    """When and on what a page was made."""
    return f"Made by `make bench` on {datetime.now(UTC):%Y-%m-%d}; {machine()}."


def yes(holds: bool) -> str:
    """Said in a table: a mark that is missed must meet the eye."""
    return "yes" if holds else "NO"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table of Markdown; the first and the last column are words, the others figures."""
    rule = f"|---|{'---:|' * (len(head) - 2)}---|"
    return [f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)]


def publish(name: str, lines: Sequence[str], *, holds: bool, write: bool) -> None:
    """Print the page, keep it as a result, and end with 1 where a figure misses its mark."""
    text = "\n".join(lines).rstrip("\n") + "\n"
    print(text)
    if write:
        (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    sys.exit(0 if holds else 1)

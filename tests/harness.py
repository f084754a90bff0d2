"""The installed command in a folder of its own, and endpoints for it to measure.

Every process of a command carries a mark in its environment, by which the whole family is found again, however it was
started: `Cli.family` sees what outlives a run, and `Cli.end` leaves nothing behind.
"""

import contextlib
import http.client
import io
import json
import os
import re
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

from latbench.cli.main import main
from latbench.model.errors import ExitCode
from latbench.sim.options import Options, command

ROOT = Path(__file__).parents[1]
SHARED = ROOT / "../shared"
LATBENCH = Path(sys.executable).with_name("latbench")
MARK = "LATBENCH_TEST_MARK"
HASTE = {"LATBENCH_RUN_NO_NULL_TEST": "1"}  # a test of the null test sets it to 0
FAST = Options(ttft_ns=2_000_000, itl_ns=500_000, jitter=0.1, slowdown=0.0, prefill_rate=1e9, slots=256)
PROMPTS = (
    {"id": "alpha", "task": "generation", "language": "python", "prompt": "Write a function that adds.", "tags": ["x"]},
    {"id": "beta", "task": "review", "language": "go", "prompt": "Review this: x := 1"},
    {"id": "gamma", "task": "search", "language": "rust", "prompt": "Where is the sum computed?"},
    {"id": "delta", "task": "completion", "language": "python", "prompt": "def total(xs):\n    return"},
)


def wait_until(condition: Callable[[], Any], limit_s: float = 60.0) -> Any:
    """The first true value of `condition`, asked again and again; fails after `limit_s`."""
    until = time.monotonic() + limit_s
    pause = threading.Event()
    while not (found := condition()):
        assert time.monotonic() < until, "waited in vain"
        pause.wait(0.02)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def members(mark: str) -> list[int]:
    """The processes that live and carry the mark. A zombie carries none."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


OF_THE_MACHINE = {"client_lag_ms", "send_lateness_ms", "engine_cpu", "not_steady"}
"""What a run is blamed for on a machine where many tests run at once, and rightly: no test but those of these looks."""


@dataclass(frozen=True)
class Done:
    """What a command came to. `code` is 0 instead of 97 where only the machine was too busy for a valid run."""

    status: int
    out: str
    err: str

    @property
    def code(self) -> int:
        """The exit code, but for the machine."""
        return 0 if self.status == ExitCode.INVALID and "invalid" not in self._severities else self.status

    @property
    def trusted(self) -> bool:
        """Whether the verdict is valid, but for the machine."""
        return "verdict" in self.out and not {"invalid", "suspect"} & self._severities

    @property
    def _severities(self) -> set[str]:
        """Those of the reasons that the machine has no part in, from a document or a page."""
        if self.out.startswith("{"):
            return {one["severity"] for one in self.summary["validity"]["reasons"] if one["code"] not in OF_THE_MACHINE}
        found = re.findall(r"^(invalid|suspect|note): (\w+)", self.out, flags=re.MULTILINE)
        return {severity for severity, code in found if code not in OF_THE_MACHINE}

    @property
    def said(self) -> str:
        """Standard error without the line that says what the run may cost."""
        return re.sub(r"^latbench: (?:at most|about) .* output tokens.*\n", "", self.err, count=1, flags=re.MULTILINE)

    @property
    def summary(self) -> dict[str, Any]:
        """The one JSON document on standard output, read strictly."""
        found: dict[str, Any] = json.loads(self.out, parse_constant=_no_constant)
        return found


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@dataclass(frozen=True)
class Command:
    """A command that runs."""

    process: "subprocess.Popen[bytes]"
    out: Path
    err: Path

    def wait(self, limit_s: float = 90.0) -> Done:
        code = self.process.wait(limit_s)
        return Done(code, self.out.read_text(), self.err.read_text())

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@dataclass
class Cli:
    """Starts commands in `cwd`; what they print is kept in `scratch`. Without a null test, which takes two seconds."""

    cwd: Path
    scratch: Path
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    _started: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def start(self, *args: str | Path, env: Mapping[str, str] | None = None, program: tuple[str, ...] = ()) -> Command:
        number = len(self._started)
        out, err = self.scratch / f"{number}.out", self.scratch / f"{number}.err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [*(program or (str(LATBENCH),)), *map(str, args)],
                cwd=self.cwd,
                env=self._environ(env),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        self._started.append(process)
        return Command(process, out, err)

    def run(self, *args: str | Path, env: Mapping[str, str] | None = None, program: tuple[str, ...] = ()) -> Done:
        return self.start(*args, env=env, program=program).wait()

    def here(self, *args: str | Path, env: Mapping[str, str] | None = None) -> Done:
        """A command that sends nothing, in this process: a new one would take most of a second to import.

        One that would send after all fails: only processes of their own may import Locust.
        """
        out, err = io.StringIO(), io.StringIO()
        before, handler = Path.cwd(), signal.getsignal(signal.SIGTERM)
        started = mock.Mock(side_effect=AssertionError("the command was not refused"))
        with (
            mock.patch.dict(os.environ, self._environ(env), clear=True),
            mock.patch.object(sys, "argv", ["latbench", *map(str, args)]),
            mock.patch("latbench.cli.launch.start_engine", started),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            os.chdir(self.cwd)
            try:
                main()
            except SystemExit as over:
                code = over.code or 0
            finally:
                os.chdir(before)
                signal.signal(signal.SIGTERM, handler)
        assert isinstance(code, int)
        return Done(code, out.getvalue(), err.getvalue())

    def _environ(self, env: Mapping[str, str] | None) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("LATBENCH_", "NO_COLOR"))}
        ours = {MARK: self.mark, "LATBENCH_SPOOL": str(self.scratch / "spools"), **HASTE}
        return clean | ours | dict(env or {})

    def family(self) -> list[int]:
        return members(self.mark)

    def end(self) -> None:
        """Kill whatever is left."""
        for process in self._started:
            process.kill()
            process.wait()
        for pid in self.family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # --- files ----------------------------------------------------------------------------------------------------

    def write(self, name: str, text: str) -> Path:
        path = self.cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def prompts(self) -> Path:
        """A few prompts of one's own, as JSONL."""
        return self.write("own.jsonl", "".join(json.dumps(prompt) + "\n" for prompt in PROMPTS))

    def scenario(self, name: str = "mine.yaml", **keys: Any) -> Path:
        """A scenario file (JSON is YAML); what is not given is small and quick."""
        self.prompts()
        there = "../own.jsonl" if "/" in name else "own.jsonl"
        data = {"name": "mine", "version": "1", "prompts": {"path": there}, "output": {"max_tokens": 8}}
        return self.write(name, json.dumps(data | keys, indent=1))

    def rows(self, sql: str, *values: object, store: str = "latbench.db") -> list[tuple[Any, ...]]:
        """What the store says to a question; nothing while it is not there yet."""
        path = self.cwd / store
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as connection:
            try:
                return connection.execute(sql, values).fetchall()
            except sqlite3.OperationalError as fault:
                if "no such table" in str(fault):
                    return []
                raise


def one_off(url: str, requests: int, concurrency: int, *more: str | Path) -> list[str | Path]:
    """`run` against a URL with prompts that the test has written."""
    flags = ["--url", url, "--model", "m", "--requests", requests, "--concurrency", concurrency, "--max-tokens", 8]
    return ["run", *map(str, flags), "--prompts", "own.jsonl", "--json", *more]


def closes(summary: Mapping[str, Any]) -> bool:
    """Conservation: planned is the sum of all outcomes, over all endpoints."""
    validity = summary["validity"]
    outcomes = [sum(endpoint["outcomes"].values()) for endpoint in summary["endpoints"].values()]
    codes = [reason["code"] for reason in validity["reasons"]]
    return validity["planned"] == sum(outcomes) and "conservation" not in codes


# --- endpoints --------------------------------------------------------------------------------------------------------


@dataclass
class Served:
    """An endpoint in a process of its own."""

    process: "subprocess.Popen[str]"
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def get(self, path: str, method: str = "GET") -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def stats(self) -> dict[str, Any]:
        """What the simulated endpoint has counted."""
        found: dict[str, Any] = self.get("/sim/stats")
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def simulated(options: Options = FAST, env: Mapping[str, str] | None = None) -> Iterator[Served]:
    line = command(options)
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said.startswith("latbench sim: http://127.0.0.1:")
            yield Served(process, int(said.rsplit(":", 1)[1].split("/")[0]))
        finally:
            process.kill()


def why_no_oracle() -> str:
    """Why the oracle cannot be built here; empty if it can."""
    if not (SHARED / "oracle/oracle.c").is_file():
        return "../shared/oracle is not beside this checkout"
    return "" if shutil.which("cc") else "there is no C compiler (cc)"


def build_oracle(folder: Path) -> Path:
    program = folder / "oracle"
    source = SHARED / "oracle/oracle.c"
    subprocess.run(["cc", "-O2", "-w", "-o", str(program), str(source), "-lm"], check=True, timeout=100)
    return program


@contextmanager
def oracle(program: Path, *options: str) -> Iterator[Served]:
    port = free_port()
    line = [str(program), "--port", str(port), *options]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == f"oracle: http://127.0.0.1:{port}\n"
            yield Served(process, port)
        finally:
            process.kill()


@dataclass
class Scripted:
    """A server in this process that answers every request alike, and keeps what it was sent."""

    url: str
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def scripted(status: int, body: str, kind: str = "application/json") -> Iterator[Scripted]:
    found = Scripted("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["content-length"]))
            found.requests.append(({name.lower(): value for name, value in self.headers.items()}, sent))
            data = body.encode()
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Be quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that goes away is no error."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_port}/v1"
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()

"""A real Prometheus on a free port of the loopback, the expressions of the boards, and servers that misbehave."""

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from harness import ROOT, free_port, wait_until

GRAFANA = ROOT / "grafana"
RULES = GRAFANA / "prometheus" / "rules.yml"
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="needs Debian's package prometheus",
)


@dataclass
class Prometheus:
    """A server that runs."""

    url: str
    folder: Path

    def api(self, path: str, **query: str) -> Any:
        try:
            with urlopen(f"{self.url}/api/v1/{path}?{urlencode(query)}", timeout=30) as answer:
                return json.load(answer)["data"]
        except HTTPError as fault:
            raise AssertionError(f"{query}: {fault.read().decode()}") from fault

    def value(self, expr: str, at_s: float | None = None) -> float | None:
        """The value of an expression that has one series, if it has any."""
        found = self.api("query", query=expr, **({} if at_s is None else {"time": str(at_s)}))["result"]
        assert len(found) < 2, found
        return float(found[0]["value"][1]) if found else None

    def series(self, expr: str, start_s: float, end_s: float, step: str = "1s") -> list[dict[str, Any]]:
        found = self.api("query_range", query=expr, start=str(start_s), end=str(end_s), step=step)["result"]
        return list(found)

    def alerts(self) -> set[str]:
        """The names of those that fire."""
        return {one["labels"]["alertname"] for one in self.api("alerts")["alerts"] if one["state"] == "firing"}


@contextmanager
def prometheus(
    folder: Path, ports: Sequence[int] = (), *, rules: str = "", data: Path | None = None
) -> Iterator[Prometheus]:
    """A server that scrapes these ports of the loopback every second."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"] if rules else [],
        "scrape_configs": [
            {"job_name": "latbench", "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    (folder / "rules.yml").write_text(rules)
    port = free_port()
    command = [
        *("prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={data or folder / 'data'}"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver", "--log.level=error"),
        *("--enable-feature=native-histograms", "--storage.tsdb.retention.time=10y"),
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        found = Prometheus(f"http://127.0.0.1:{port}", folder)
        try:
            wait_until(lambda: _ready(found.url))
            yield found
        finally:
            process.terminate()


def _ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/-/ready", timeout=5):
            return True
    except OSError:
        return False


def scrape(port: int, accept: str = "") -> str:
    from urllib.request import Request

    with urlopen(Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept}), timeout=10) as answer:
        return str(answer.read().decode())


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- the boards -------------------------------------------------------------------------------------------------------

BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))}
PLACED = {
    "__rate_interval": "10s",
    "__range": "10m",
    "peak": "peak",
    "offpeak": "offpeak",
    **dict.fromkeys(("scenario", "window", "provider", "endpoint", "model"), ".*"),
}


def filled(expr: str, placed: Mapping[str, str] = PLACED) -> str:
    """An expression with values in the place of Grafana's variables."""
    return re.sub(r"\$(\w+)", lambda name: placed[name[1]], expr)


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels") or ()


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression of every board with its place: panels, annotations."""
    for name, board in BOARDS.items():
        for panel in panels(board):
            for target in panel.get("targets") or ():
                yield f"{name}: {panel['title']} {target['refId']}", target["expr"]
        for annotation in board["annotations"]["list"]:
            yield f"{name}: annotation {annotation['name']}", annotation["expr"]


def built_boards() -> dict[str, Any]:
    """What `grafana/build.py` makes of the boards in code, by file name."""
    code = "import json, build; print(json.dumps({path.stem: text for path, text in build.texts().items()}))"
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd=GRAFANA, capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# --- servers ----------------------------------------------------------------------------------------------------------


@dataclass
class Inventive:
    """A server whose every answer names another model, another fingerprint, other headers and other limits."""

    url: str = ""
    asked: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def inventive(failing: int = 0) -> Iterator[Inventive]:
    """Of every `failing` requests one fails, with an error of its own; 0: none does."""
    found = Inventive()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            with found.lock:
                found.asked += 1
                number = found.asked
            if failing and number % failing == 0:
                self._fail(number)
                return
            head = {"id": f"x{number}", "model": f'model-{number}"\n', "system_fingerprint": f"fp{number}"}
            parts = [
                {**head, "choices": [{"index": 0, "delta": {"content": "a"}}]},
                {**head, "choices": [{"index": 0, "delta": {"content": "b"}, "finish_reason": f"stop{number}"}]},
                {**head, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
            ]
            body = "".join(f"data: {json.dumps(part)}\n\n" for part in parts) + "data: [DONE]\n\n"
            self._say(200, body, "text/event-stream", number)

        def _fail(self, number: int) -> None:
            kind = f"kind_{number}"
            error = {"error": {"message": f"{kind} says no, {number}", "type": kind, "code": kind}}
            self._say((429, 500, 418, 400)[number % 4], json.dumps(error), "application/json", number)

        def _say(self, status: int, body: str, kind: str, number: int) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.send_header(f"x-ratelimit-limit-thing{number}", str(number))
            self.send_header(f"x-ratelimit-remaining-thing{number}", "1")
            self.send_header("x-ratelimit-limit-requests", str(1000 + number))
            self.send_header("x-ratelimit-remaining-requests", str(number % 1000))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Be quiet."""

    with _served(Handler) as port:
        found.url = f"http://127.0.0.1:{port}/v1"
        yield found


SERVER_METRICS = """
vllm:time_to_first_token_seconds_bucket{model_name="m",engine="0",le="0.25"} %(n)d
vllm:time_to_first_token_seconds_bucket{model_name="m",engine="0",le="+Inf"} %(n)d
vllm:num_requests_waiting{model_name="m",engine="0"} 1
vllm:num_requests_running{model_name="m",engine="0"} 2
llamacpp:requests_deferred 1
llamacpp:requests_processing 2
sglang:time_to_first_token_seconds_bucket{model_name="m",le="0.2"} %(n)d
sglang:time_to_first_token_seconds_bucket{model_name="m",le="+Inf"} %(n)d
sglang:num_queue_reqs{model_name="m"} 1
"""


@contextmanager
def server_metrics() -> Iterator[int]:
    """The port of a page with the names under which servers publish their own metrics; its counters grow."""
    count = iter(range(1, 1_000_000))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write((SERVER_METRICS % {"n": next(count)}).lstrip().encode())

        def log_message(self, format: str, *args: object) -> None:
            """Be quiet."""

    with _served(Handler) as port:
        yield port


@contextmanager
def _served(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that goes away is no error."""

    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield int(server.server_port)
        finally:
            server.shutdown()
            thread.join()

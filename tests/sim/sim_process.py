"""Real processes of the simulated endpoint."""

import http.client
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from latbench.sim.options import Options, command

QUICK = Options(ttft_ns=2_000_000, itl_ns=200_000, jitter=0.0, slowdown=0.0, prefill_rate=1e9, tokens=20)


@dataclass
class Sim:
    """A running endpoint."""

    process: "subprocess.Popen[str]"
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def call(
        self, method: str, path: str, body: bytes | str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower case) and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def chat(self, body: dict[str, Any] | bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.call("POST", "/v1/chat/completions", sent, headers)

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.call("GET", "/sim/stats")[2])
        assert found["requests"] == found["ok"] + found["errors"] + found["disconnected"] + found["open"]
        return found

    def wait_for(self, **figures: int) -> dict[str, Any]:
        """Asks until the figures are so. The test's own time limit ends a wait in vain."""
        while True:
            found = self.stats()
            if all(found[name] == value for name, value in figures.items()):
                return found

    def reset(self) -> None:
        self.call("POST", "/sim/reset")


@contextmanager
def running(options: Options) -> Iterator[Sim]:
    """A server of one's own, killed at the end."""
    with subprocess.Popen(command(options), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("latbench sim: http://127.0.0.1:")
            assert line.endswith("/v1\n")
            yield Sim(process, int(line.rsplit(":", 1)[1].split("/")[0]))
        finally:
            process.kill()

"""Prometheus, and Grafana where it is installed, against a running simulation: `make observe`.

Two simulated endpoints, one of them with a rate limit, are measured again and again, and a third one is asked for
needles in between; the lot is on the loopback and ends with Ctrl-C. With `--once FOLDER` two runs and the needles are
watched once, and main panels of the boards are drawn into pictures there.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

from draw import LIVE_RUN, OTHER_BOARDS, draw

HERE = Path(__file__).parent
LATBENCH = [sys.executable, "-m", "latbench"]
QUICK = ("--ttft=120ms", "--itl=8ms", "--slots=8", "--slowdown=0.05", "--with-parent")
SLOW = ("--ttft=300ms", "--itl=20ms", "--rpm=240", "--burst=20", "--with-parent")
FORGETFUL = {"x-sim-needle-accuracy": "0.97,30-70%=0.7", "x-sim-ttft": "50ms", "x-sim-itl": "2ms"}


def free_port() -> int:
    """A port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Scene:
    """Everything that runs, in a folder that goes when it ends."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.metrics = free_port()
        self.prometheus = f"http://127.0.0.1:{free_port()}"

    def start(self, command: list[str], **more: object) -> "subprocess.Popen[str]":
        """A process that ends with the scene."""
        process = subprocess.Popen(command, text=True, cwd=self.folder, **more)  # type: ignore[call-overload]
        self._stack.callback(_end, process)
        return process

    def simulate(self, *options: str) -> str:
        """The address of a simulated endpoint."""
        process = self.start([*LATBENCH, "sim", *options], stdout=subprocess.PIPE)
        assert process.stdout is not None
        return process.stdout.readline().split()[-1]

    def watch(self) -> None:
        """Start Prometheus with the rules, scraping every second."""
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "5s"},
            "rule_files": [str(HERE.resolve() / "prometheus" / "rules.yml")],
            "scrape_configs": [
                {"job_name": "latbench", "static_configs": [{"targets": [f"127.0.0.1:{self.metrics}"]}]}
            ],
        }
        (self.folder / "prometheus.yml").write_text(json.dumps(config))
        flags = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=error"]
        self.start(["prometheus", *flags, f"--web.listen-address={self.prometheus.removeprefix('http://')}"])
        until = time.monotonic() + 30
        while not _ready(self.prometheus):
            if time.monotonic() > until:
                sys.exit("Prometheus did not start")
            time.sleep(0.1)

    def show(self) -> str:
        """Start Grafana, where it is installed; in words where to look."""
        program = shutil.which("grafana") or shutil.which("grafana-server")
        if program is None:
            return f"Grafana is not installed here; Prometheus: {self.prometheus}/graph"
        port, homes = free_port(), [Path("/usr/share/grafana"), Path(program).resolve().parents[1]]
        home = next((path for path in homes if (path / "conf/defaults.ini").exists()), homes[0])
        provisioning = self.folder / "provisioning"
        shutil.copytree(HERE / "provisioning", provisioning)
        source = provisioning / "datasources" / "prometheus.yaml"
        source.write_text(source.read_text().replace("http://127.0.0.1:9090", self.prometheus))
        password = os.urandom(9).hex()
        settings = {
            "GF_SERVER_HTTP_ADDR": "127.0.0.1",
            "GF_SERVER_HTTP_PORT": str(port),
            "GF_PATHS_DATA": str(self.folder / "grafana"),
            "GF_PATHS_PROVISIONING": str(provisioning),
            "GF_SECURITY_ADMIN_PASSWORD": password,
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            "LATBENCH_DASHBOARDS": str(HERE.resolve() / "dashboards"),
        }
        command = [program, *(["server"] if Path(program).name == "grafana" else []), "--homepath", str(home)]
        self.start(command, env=os.environ | settings, stdout=subprocess.DEVNULL)
        return f"Grafana: http://127.0.0.1:{port}, user admin, password {password}; Prometheus: {self.prometheus}/graph"

    def scenario(self, seconds: int) -> Path:
        """The pack, two endpoints, an open loop of so many seconds, then two steps of concurrency."""
        endpoints = [
            {"name": "quick", "provider": "sim", "base_url": self.simulate(*QUICK), "api": "openai-chat",
             "model": "sim-coder", "price": {"input": 1.0, "output": 4.0}},
            {"name": "limited", "provider": "sim-limited", "base_url": self.simulate(*SLOW), "api": "openai-chat",
             "model": "sim-coder", "price": {"input": 3.0, "output": 15.0}, "limits": {"rpm": 300}},
        ]  # fmt: skip
        data = {
            "name": "observe",
            "version": "1",
            "endpoints": endpoints,
            "prompts": {"pack": "code-mix"},
            "output": {"max_tokens": 48},
            "load": [
                {"shape": "poisson", "rate": "5/s", "duration": f"{seconds}s", "warmup": "5s"},
                {"shape": "closed", "concurrency": [2, 8], "duration": f"{seconds * 3 // 4}s", "warmup": "5s"},
            ],
            "slo": {"ttft": "800ms", "tpot": "40ms"},
        }
        return self._written("observe", data)

    def needles(self) -> Path:
        """Three lengths, five depths, twenty files of each. `sim` is an endpoint that knows the answers."""
        endpoint = {"name": "long", "provider": "sim", "base_url": "sim", "api": "openai-chat", "model": "sim-coder",
                    "headers": FORGETFUL}  # fmt: skip
        needle = {"kinds": ["constant"], "lengths": ["2k", "4k", "8k"], "blocks": 20}
        return self._written("needles", {"name": "needles", "version": "1", "endpoints": [endpoint], "needle": needle})

    def _written(self, name: str, data: dict[str, object]) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps(data))
        return path

    def measure(self, verb: str, scenario: Path, *more: str) -> None:
        """One run, scraped while it goes on and for some seconds after that."""
        flags = ["--metrics-addr", str(self.metrics), "--metrics-keep", "5s", "--quiet", "--json", *more]
        self.start([*LATBENCH, verb, str(scenario), *flags], stdout=subprocess.DEVNULL).wait()

    def round(self, scenario: Path, needles: Path) -> tuple[float, float]:
        """A run at peak, needles, a run off-peak; between which times the first one was."""
        began = time.time()
        self.measure("run", scenario, "--window", "peak")
        first = began, time.time()
        self.measure("needle", needles, "--concurrency", "8")
        self.measure("run", scenario, "--window", "offpeak")
        return first


def _ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/-/ready", timeout=5):
            return True
    except OSError:
        return False


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    process.wait()


def main() -> None:
    """Start everything and measure, until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", type=Path, metavar="FOLDER", help="watch once and draw into this folder")
    parser.add_argument("--seconds", type=int, default=40, help="how long the first step of a run takes")
    arguments = parser.parse_args()
    once: Path | None = arguments.once
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if shutil.which("prometheus") is None:
        sys.exit("prometheus is not installed: apt-get install prometheus")
    with ExitStack() as stack:
        scene = Scene(stack)
        scene.watch()
        scenario, needles = scene.scenario(arguments.seconds), scene.needles()
        if once is not None:
            first = scene.round(scenario, needles)
            live = draw(scene.prometheus, LIVE_RUN, *first)
            (once / "live-run.svg").write_text(live, encoding="utf-8")
            others = draw(scene.prometheus, OTHER_BOARDS, first[0], time.time())
            (once / "boards.svg").write_text(others, encoding="utf-8")
            return
        print(scene.show(), flush=True)
        try:
            while True:
                scene.round(scenario, needles)
        except KeyboardInterrupt:
            print("over")


if __name__ == "__main__":
    main()

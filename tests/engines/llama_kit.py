"""llama.cpp's own server with a tiny model made on the spot (../shared/engines): an engine that nobody here wrote."""

import fcntl
import http.client
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import SHARED, free_port, wait_until

ENGINES = SHARED / "engines"
PACKAGES = ("xllamacpp==2026.10.11549", "gguf==0.19.0")


@dataclass(frozen=True)
class Llama:
    """A server that runs."""

    port: int

    @property
    def url(self) -> str:
        """Without the version."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def is_healthy(self) -> bool:
        try:
            return self.get("/health")[0] == 200
        except OSError:
            return False

    def counted(self) -> dict[str, int]:
        """What it has counted since it began: `fresh` and `cached` tokens of prompts, `output` tokens."""
        text = self.get("/metrics")[1]
        names = {
            "fresh": "prompt_tokens_total",
            "cached": "prompt_tokens_cached_total",
            "output": "tokens_predicted_total",
        }
        found = {key: re.search(rf"^llamacpp:{name} (\S+)$", text, re.MULTILINE) for key, name in names.items()}
        return {key: int(float(match[1])) for key, match in found.items() if match}


def find_python() -> Path:
    """A Python with the engine: LATBENCH_ENGINE_PYTHON, or an environment of ours in the temporary folder."""
    if not ENGINES.is_dir():
        pytest.skip("../shared/engines is not beside this checkout")
    if "LATBENCH_ENGINE_PYTHON" in os.environ:
        return Path(os.environ["LATBENCH_ENGINE_PYTHON"])
    folder = Path(tempfile.gettempdir()) / f"latbench-engine-{os.getuid()}"
    python = folder / "bin/python"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # pytest-xdist: one of us installs
        if not (python.exists() and _has_packages(python)):
            _install(folder, python)
    return python


def _has_packages(python: Path) -> bool:
    found = subprocess.run([python, "-c", "import xllamacpp, gguf"], capture_output=True, check=False, timeout=60)
    return found.returncode == 0


def _install(folder: Path, python: Path) -> None:
    for command in ([sys.executable, "-m", "venv", folder], [python, "-m", "pip", "install", "-q", *PACKAGES]):
        found = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=False, timeout=400
        )
        if found.returncode:
            missing = pytest.fail if os.environ.get("CI") else pytest.skip
            missing(f"the engine cannot be installed: {(found.stderr or found.stdout).strip()[-300:]}")


@contextmanager
def serving(python: Path, folder: Path) -> Iterator[Llama]:
    """The server with 8 slots of 1024 tokens."""
    model, server = folder / "tiny.gguf", Llama(free_port())
    subprocess.run([python, ENGINES / "make_tiny_gguf.py", model], check=True, capture_output=True, timeout=120)
    options = ["--model", str(model), "--port", str(server.port), "--threads", "1", "--parallel", "8", "--ctx", "8192"]
    with (folder / "engine.log").open("wb") as log:
        process = subprocess.Popen([python, ENGINES / "real_llm_server.py", *options], stdout=log, stderr=log)
        try:
            wait_until(lambda: process.poll() is not None or server.is_healthy(), 120.0)
            assert process.poll() is None, (folder / "engine.log").read_text()[-2000:]
            yield server
        finally:
            process.kill()
            process.wait()

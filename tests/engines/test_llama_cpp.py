"""A real engine: llama.cpp's own server with a tiny model made on the spot (../shared/engines).

It announces keep-alive and closes the connection after every stream.
"""

import fcntl
import http.client
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import SHARED, Cli, closes, free_port, wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

ENGINES = SHARED / "engines"
PACKAGES = ("xllamacpp==2026.10.11549", "gguf==0.19.0")


def _has_packages(python: Path) -> bool:
    found = subprocess.run([python, "-c", "import xllamacpp, gguf"], capture_output=True, check=False, timeout=60)
    return found.returncode == 0


@pytest.fixture(scope="module")
def engine_python() -> Path:
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


def _install(folder: Path, python: Path) -> None:
    for command in ([sys.executable, "-m", "venv", folder], [python, "-m", "pip", "install", "-q", *PACKAGES]):
        found = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=False, timeout=400
        )
        if found.returncode:
            pytest.skip(f"the engine cannot be installed: {(found.stderr or found.stdout).strip()[-300:]}")


@contextmanager
def _serving(python: Path, folder: Path) -> Iterator[str]:
    """The server with 8 slots of 1024 tokens."""
    model, port = folder / "tiny.gguf", free_port()
    subprocess.run([python, ENGINES / "make_tiny_gguf.py", model], check=True, capture_output=True, timeout=120)
    options = ["--model", str(model), "--port", str(port), "--threads", "1", "--parallel", "8", "--ctx", "8192"]
    with (folder / "engine.log").open("wb") as log:
        process = subprocess.Popen([python, ENGINES / "real_llm_server.py", *options], stdout=log, stderr=log)
        try:
            wait_until(lambda: process.poll() is not None or _healthy(port), 120.0)
            assert process.poll() is None, (folder / "engine.log").read_text()[-2000:]
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()
            process.wait()


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_request_is_ok(cli: Cli, engine_python: Path, tmp_path: Path, workers: str) -> None:
    cli.prompts()
    with _serving(engine_python, tmp_path) as url:
        flags = ["--concurrency", "4", "--requests", "40", "--max-tokens", "24", "--prompts", "own.jsonl"]
        done = cli.run("run", "--url", url, "--model", "tiny", *flags, "--workers", workers, "--json")
    assert done.code == 0, done.err
    summary = done.summary
    assert summary["validity"]["ok"] == summary["validity"]["planned"] == 40
    assert closes(summary)
    assert summary["validity"]["verdict"] == "valid"
    assert summary["validity"]["reconnects"] is not None
    block = summary["endpoints"]["tiny"]
    assert block["tokens"]["source"] == "usage"
    assert 0 < block["tokens"]["output"] <= 40 * 24
    assert block["metrics"]["ttft_ms"]["n"] + block["empty"] == 40
    new = cli.rows("SELECT count(*) FROM samples WHERE new_connection")[0][0]
    assert new + summary["validity"]["reconnects"] > 4, "it closes after each stream: most requests open a connection"

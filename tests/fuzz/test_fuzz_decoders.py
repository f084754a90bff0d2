"""The fuzzer of the decoders is kept working, and runs for a bounded time."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from decoders_target import one_input, seeds

FUZZER = Path(__file__).with_name("fuzz_decoders.py")
SECONDS = 30


def test_every_seed_is_an_input_that_passes() -> None:
    """Without atheris: what the fuzzer begins with, as it is and cut short."""
    found = list(seeds())
    assert len(found) > 500
    for seed in found:
        for end in (len(seed), len(seed) - 1, len(seed) // 2, 1):
            one_input(seed[:end])


@pytest.mark.long
def test_fuzzing_for_a_while_finds_nothing(tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: it has no wheel for every Python (see `dev` in pyproject.toml)")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    flags = [f"-max_total_time={SECONDS}", "-timeout=10", "-rss_limit_mb=1024", "-max_len=4096", "-print_final_stats=1"]
    # A coverage of its own steers it: ours, in its process, would only make it slow.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE_"))}
    line = [sys.executable, str(FUZZER), str(corpus), *flags, f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=SECONDS + 60, check=False)
    found = {path.name: path.read_bytes() for path in tmp_path.glob("*-*")}
    assert (done.returncode, found) == (0, {}), done.stdout[-3000:] + done.stderr[-5000:]
    executed = re.search(r"stat::number_of_executed_units:\s+(\d+)", done.stderr)
    assert executed is not None, done.stderr[-2000:]
    assert int(executed[1]) > len(list(seeds())), "it has gone beyond its seeds"

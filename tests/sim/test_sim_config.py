"""`latbench sim --config FILE`: the options of the command line in a file."""

import subprocess
import sys
from pathlib import Path

import pytest
from sim_process import Sim

pytestmark = pytest.mark.timeout(60)

LATBENCH = Path(sys.executable).with_name("latbench")


def _failed(folder: Path, text: str) -> str:
    folder.joinpath("sim.yaml").write_text(text)
    line = [str(LATBENCH), "sim", "--config", "sim.yaml"]
    found = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    assert (found.returncode, found.stdout) == (2, "")
    assert "Traceback" not in found.stderr
    return found.stderr


def test_a_file_sets_options_and_a_flag_beats_it(tmp_path: Path) -> None:
    tmp_path.joinpath("sim.yaml").write_text(
        "ttft: 1ms\nitl: 0ms\nrpm: 5\nburst: 2\ntokens: 7\nstrict-model: true\nmodel: from-file\nwith-parent: false\n"
        "profile: 00:00-24:00=0.5\nclock: 2026-01-05T08:59:30Z\nclock-rate: 0\n"
    )
    line = [str(LATBENCH), "sim", "--config", "sim.yaml", "--model", "from-flag"]
    with subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            sim = Sim(process, int(process.stdout.readline().rsplit(":", 1)[1].split("/")[0]))
            asked = {"messages": [{"role": "user", "content": "x"}]}
            assert sim.chat({**asked, "model": "from-file"})[0] == 404
            status, headers, body = sim.chat({**asked, "model": "from-flag"})
            assert (status, headers["x-ratelimit-limit-requests"]) == (200, "5")
            assert b'"completion_tokens":7' in body
            assert b"08:59:30.000Z" in sim.call("GET", "/sim/clock")[2]
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ttft: 200\n", "sim.yaml:1: ttft: '200' is not a duration"),
        ("slots: 4\nrpn: 5\n", 'sim.yaml:2: rpn: not an option; did you mean "rpm"?'),
        ("rpm: 0\n", "sim.yaml:1: rpm: 0 is not in the range"),
        ("rpm: 2.5\n", "sim.yaml:1: rpm: '2.5' is not a valid integer"),
        ("rpm:\n", "sim.yaml:1: rpm: has to be one value"),
        ("rpm: [1]\n", "sim.yaml:1: rpm: has to be one value"),
        ("rpm: true\n", "sim.yaml:1: rpm: has to be one value"),
        ("strict-model: maybe\n", "sim.yaml:1: strict-model: 'maybe' is not a valid boolean"),
        ("profile: 9-18=2\n", "sim.yaml:1: profile: '9-18=2' is not of the form"),
        ("config: sim.yaml\n", "sim.yaml:1: config: not an option"),
        ("- ttft\n", "sim.yaml:1: write options of latbench sim"),
        ("p-cut: 0.6\np-500: 0.6\n", "add up to 1.2"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, text: str, says: str) -> None:
    assert says in _failed(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    line = [str(LATBENCH), "sim", "--config", "none.yaml"]
    found = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert "none.yaml" in found.stderr

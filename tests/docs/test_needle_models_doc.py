"""The commands of docs/needle.md on models and pictures are run as they stand there."""

import re
import subprocess
from pathlib import Path

import pytest

from latbench.sim.trials import MODELS

PAGE = (Path(__file__).parents[2] / "docs" / "needle.md").read_text(encoding="utf-8")


def block(what: str) -> str:
    (text,) = re.findall(rf"<!-- run: {what} -->\n```sh\n(.*?)```", PAGE, re.DOTALL)
    return str(text)


def test_every_model_is_explained() -> None:
    rows = re.findall(r"^\| `([a-z][a-z-]+)` \|", PAGE.partition("## Models")[2], re.MULTILINE)
    assert rows == [*MODELS]


@pytest.mark.long
def test_a_blind_model_and_its_pictures(tmp_path: Path, environment: dict[str, str]) -> None:
    said = []
    for what in ("blind", "pictures"):
        line = ["sh", "-ec", block(what)]
        done = subprocess.run(
            line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    (missed,) = re.findall(r"false_absent (\d+)", said[0])
    assert 8 <= int(missed) <= 12  # ten stand in the middle; the model counts bytes, the stratum tokens
    names = {"accuracy", "certified", "ttft", "failures"}
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {f"needle-{name}.svg" for name in names}

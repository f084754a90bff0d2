"""The diff that docs/adding-a-provider.md shows is what stands in the tree, and all that an API needs.

Every hunk's new side has to be there, word for word. In a copy of the source from which the diff is taken out, all
other APIs are left, and nothing else is missing.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_docs import ROOT, blocks

from latbench.providers.registry import APIS

PAGE = ROOT / "docs" / "adding-a-provider.md"
ADDED = "mistral"


@dataclass(frozen=True)
class Hunk:
    """Lines of a file before (None: there was no file) and after."""

    path: str
    before: str | None
    after: str


def hunks(diff: str) -> Iterator[Hunk]:
    """The hunks of a unified diff."""
    for old, path, body in re.findall(
        r"^--- (\S+)\n\+\+\+ b/(\S+)\n((?:[@+ -].*\n(?!--- /))*.*\n?)", diff, re.MULTILINE
    ):
        for lines in re.split(r"^@@ .*\n", body, flags=re.MULTILINE)[1:]:
            before, after = (
                "".join(line[1:] for line in lines.splitlines(keepends=True) if line[0] in f" {sign}") for sign in "-+"
            )
            yield Hunk(path, None if old == "/dev/null" else before, after)


def shown() -> list[Hunk]:
    return [hunk for block in blocks(PAGE) if block.language == "diff" for hunk in hunks(block.text)]


def is_there(hunk: Hunk, root: Path) -> bool:
    text = (root / hunk.path).read_text(encoding="utf-8")
    return text == hunk.after if hunk.before is None else text.count(hunk.after) == 1


def test_the_diff_is_what_stands_in_the_tree() -> None:
    found = shown()
    assert [hunk.path for hunk in found] == [
        *("latbench/providers/mistral.py", "latbench/providers/registry.py", "latbench/providers/registry.py"),
        *("tests/streams/mistral/fill.sse", "tests/streams/mistral/fill.json"),
    ]
    assert [hunk.path for hunk in found if not is_there(hunk, ROOT)] == []


def test_a_line_that_differs_is_found() -> None:
    file, line = shown()[:2]
    assert not is_there(Hunk(file.path, None, file.after.replace("fills=True", "fills=False")), ROOT)
    assert not is_there(Hunk(line.path, line.before, line.after.replace("mistral", "minstrel")), ROOT)
    assert not is_there(Hunk(file.path, None, file.after.partition("\n")[2]), ROOT)


@pytest.fixture
def without(tmp_path: Path) -> Path:
    """A copy of the source as it was before the diff."""
    shutil.copytree(ROOT / "latbench", tmp_path / "latbench", ignore=shutil.ignore_patterns("__pycache__"))
    for hunk in shown():
        path = tmp_path / hunk.path
        if hunk.before is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(path.read_text(encoding="utf-8").replace(hunk.after, hunk.before), encoding="utf-8")
    return tmp_path


@pytest.mark.long
def test_without_the_diff_only_that_api_is_missing(without: Path) -> None:
    say = "from latbench.scenario.schema import APIS; print(*APIS)"
    done = subprocess.run(
        [sys.executable, "-c", say], cwd=without, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == [api for api in APIS if api != ADDED]
    named = [path for path in (without / "latbench").rglob("*.py") if re.search(r"\bmistral\.", path.read_text())]
    assert [path for path in named if "sim" not in path.parts] == []

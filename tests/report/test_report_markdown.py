"""`report.md`: golden files and escaping."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from latbench.report.markdown import escape, render


@pytest.mark.parametrize(
    "name", ["one_step", "three_steps", "conversations", "tool_loops", "levels", "limited", "compared"]
)
def test_golden(name: str, request: pytest.FixtureRequest, held_against: Callable[[str, str], None]) -> None:
    out = io.StringIO()
    render(request.getfixturevalue(name), out)
    held_against(f"{name}_markdown.txt", out.getvalue())


def test_what_was_said_in_the_warm_up_stands_under_its_line(one_step: dict[str, Any]) -> None:
    found = json.loads(json.dumps(one_step))
    known = {"endpoint": "ac|me", "outcome": "auth_error", "status": 401, "message": "<b>no</b>\x1b[31m such\nkey"}
    found["validity"]["warmup"]["errors"] = [known | {"count": 9 - at} for at in range(4)]
    out = io.StringIO()
    render(found, out)
    lines = out.getvalue().splitlines()
    at = lines.index("Warm-up, not counted below: ok 9.")
    said = "auth\\_error (HTTP 401): &lt;b&gt;no&lt;/b&gt; such key"
    assert lines[at + 1 : at + 6] == ["", *(f"- ac\\|me: {n} {said}" for n in (9, 8, 7)), ""]


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a|b", "a\\|b"),
        ("`x`", "\\`x\\`"),
        ("<script>&", "&lt;script&gt;&amp;"),
        ("[a](b)", "\\[a\\](b)"),
        ("![x](y)", "!\\[x\\](y)"),
        ("a\\|b", "a\\\\\\|b"),
        ("two\n# lines", "two \\# lines"),
        ("\x1b[1mx", "x"),
    ],
)
def test_escape(hostile: str, shown: str) -> None:
    assert escape(hostile) == shown


def test_every_row_of_a_table_has_as_many_cells_as_its_head(one_step: dict[str, Any]) -> None:
    out = io.StringIO()
    render(one_step, out)
    width = 0
    for line in out.getvalue().splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        cells = line.replace("\\|", "").count("|")
        assert width in (0, cells)
        width = cells

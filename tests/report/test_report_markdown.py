"""`report.md`: golden files and escaping."""

import io
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

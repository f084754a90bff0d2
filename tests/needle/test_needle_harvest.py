"""Filler from real code: parsed, never run; whole units, in the lines that are sent; no secrets, nothing ignored."""

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from needle_recipes import recipe
from pathspec import GitIgnoreSpec

from latbench.model.errors import UserError
from latbench.needle.build import Builder
from latbench.needle.folder import MAX_FILE_BYTES, _ignored, _rules, read_folder
from latbench.needle.harvest import Harvest, Source, stdlib, style_of, units_of, without_comments
from latbench.needle.trial import Control, Kind

FUNCTION = "def load(rows):\n    return [row for row in rows if row]\n"


LONG = pytest.mark.long


@pytest.fixture(scope="module")
def library() -> Harvest:
    return stdlib()


@pytest.mark.parametrize("kind", [Kind.BUG, *(pytest.param(one, marks=LONG) for one in Kind if one != Kind.BUG)])
def test_the_standard_library_makes_trials_of_every_kind(library: Harvest, kind: Kind) -> None:
    trial = Builder(library).build(recipe(kind, 8_000, 0.4, source="stdlib"))
    assert abs(trial.depth - 0.4) <= 0.01
    assert abs(trial.tokens - 8_000) <= 80
    ast.parse(trial.code)
    assert trial.recipe.haystack_sha256 == library.sha256
    if kind == Kind.BUG:
        assert trial.code.count(">>>") == 24  # of the specimens, two each
        assert not re.search(r"\b(?:TODO|FIXME|XXX|BUG)\b", trial.code)


def test_no_filler_comes_twice(library: Harvest) -> None:
    trial = Builder(library).build(recipe(Kind.BUG, 60_000, 0.5, source="stdlib"))
    units = [unit for unit in re.split(r"\n\n\n+", trial.code) if len(unit) > 200]
    assert len(units) > 150
    assert len(set(units)) == len(units)
    ast.parse(trial.code)


@LONG
def test_the_library_is_the_same_twice(library: Harvest) -> None:
    made = Builder(library).build(recipe(Kind.BUG, 6_000, 0.5, source="stdlib"))
    assert Builder(stdlib()).build(made.recipe) == made
    assert stdlib(strip_comments=True).sha256 != library.sha256


def test_too_little_code_says_how_much_there_is() -> None:
    small = Harvest("folder", [Source("a.py", "\n\n".join(FUNCTION.replace("load", f"load{n}") for n in range(50)))])
    with pytest.raises(UserError, match=r"folder: too little code .* it has \d+ of \d,\d+ tokens"):
        Builder(small).build(recipe(Kind.CONSTANT, 8_000, source="folder"))
    Builder(small).build(recipe(Kind.CONSTANT, 1_000, source="folder", control=Control.ABSENT))


def test_code_is_never_run(tmp_path: Path) -> None:
    functions = "\n\n".join(FUNCTION.replace("load", f"load{number}") for number in range(90))
    (tmp_path / "trap.py").write_text(f"import os\n\nos.mkdir({str(tmp_path / 'sprung')!r})\n\n\n{functions}")
    Builder(read_folder(tmp_path).haystack).build(recipe(Kind.BUG, 2_500, source="folder"))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("def f():\r\n    return 1\r\n", 1),
        ("def f():\n\treturn 1\n", 1),
        ("def f():\n    return 1\x0c\n", 1),
        ("\x0cdef f():\n    return 1\n\n\ndef g():\n    return 2\n", 1),
        ('def f():\n    return "\u2028"\n', 0),
        ('def f():\n    return "é"\n\n\nname = "naïve"\n', 2),
        ("def f():\n    return 1\rx = 2\n", 0),
        ("\ufeffdef f():\n    return 1\n", 1),
        ("def f(:\n", 0),
        ("x = 1; y = 2\n", 1),
        ("from __future__ import annotations\n\nx = 1\n", 1),
        (f"x = '{'a' * 400}'\n", 0),
        ('def f():\n    """\n    ANSWER: 5\n    """\n', 0),
        ("# path: a.py\nx = 1\n", 0),
        ("y = '```'\n", 0),
        ("# Says what it does.\n@decorated\ndef f():\n    return 1\n", 1),
    ],
)
def test_rows_43_and_47_units_parse_alone_in_the_lines_that_are_sent(text: str, units: int) -> None:
    found = list(units_of(text))
    assert len(found) == units
    for unit in found:
        assert len(ast.parse(unit).body) >= 1
        assert unit.count("\n") == len(unit.splitlines())
        assert not re.search(r"[\r\x0b\x0c]", unit)
        assert not unit[0].isspace()


@given(text=st.text(max_size=300))
def test_any_text_is_taken_or_left(text: str) -> None:
    for unit in units_of(text):
        ast.parse(unit)


def test_comments_above_a_function_belong_to_it_and_can_be_stripped() -> None:
    text = "# Above.\ndef f():\n    # Within.\n    return '#'  # Beside.\n"
    assert next(units_of(text)).startswith("# Above.\n")
    assert next(units_of(text, strip_comments=True)) == "def f():\n    return '#'\n\n\n"
    assert without_comments("def f(:\n  '''") == "def f(:\n  '''"


def test_the_style_is_that_of_most_of_the_code() -> None:
    tabs = "def loadRow(aRow):\n\treturn 'x'\n\n" * 5
    style = style_of(tabs)
    assert (style.indent, style.quote, style.camel, style.annotated) == ("\t", "'", True, False)
    two = 'def f(a: int) -> int:\n  """Says."""\n  # Well.\n  return a\n\n' * 5
    style = style_of(two)
    assert (style.indent, style.quote, style.annotated, style.docstrings) == ("  ", '"', True, 1.0)
    assert style_of("").indent == "    "


def test_a_folder_leaves_out_secrets_links_large_and_ignored_files(tmp_path: Path) -> None:
    (tmp_path / "kept.py").write_text(FUNCTION)
    (tmp_path / "notes.txt").write_text("not code")
    (tmp_path / "secrets.py").write_text(FUNCTION)
    (tmp_path / "key.py").write_text(f"{FUNCTION}\nAPI_KEY = 'abcdefgh12345678'\n")
    (tmp_path / "pem.py").write_text("K = '''-----BEGIN RSA PRIVATE KEY-----'''\n")
    (tmp_path / "url.py").write_text("U = 'postgres://me:hunter22@db/x'\n")
    (tmp_path / "large.py").write_text("x = 1\n" * (MAX_FILE_BYTES // 5))
    (tmp_path / "latin.py").write_bytes(b"x = '\xe9'\n")
    (tmp_path / "link.py").symlink_to(tmp_path / "kept.py")
    for folder in ("build", "node_modules", "sub"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "inner.py").write_text(FUNCTION)
    (tmp_path / ".gitignore").write_text("build/\n*_pb2.py\n")
    (tmp_path / "sub" / "x_pb2.py").write_text(FUNCTION)
    reading = read_folder(tmp_path)
    assert reading.skipped == {
        "ignored": 1,
        "larger than 200 kB": 1,
        "links": 1,
        "named like a secret": 1,
        "not readable as UTF-8": 1,
        "with what may be a secret": 3,
    }
    assert reading.haystack.files == 2  # kept.py and sub/inner.py
    assert reading.bytes == 2 * len(FUNCTION)


def test_a_folder_without_code_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a folder"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no file ends in \.py"):
        read_folder(tmp_path)
    (tmp_path / "secret.py").write_text(FUNCTION)
    with pytest.raises(UserError, match="1 named like a secret"):
        read_folder(tmp_path)
    with pytest.raises(UserError, match="no Python code"):
        Harvest("folder", [])


GLOBS = [
    "*.py",
    "a/",
    "/a",
    "a/b",
    "**/b",
    "a/**",
    "!b.py",
    "?.py",
    "[ab].py",
    "[!a].py",
    "a/**/c.py",
    "b",
    "#b",
    "",
    "\\!b",
]
PATHS = ["a.py", "b.py", "a/b.py", "a/b/c.py", "b/a.py", "c/a/b.py", "ab.py", "!b/a.py"]


@given(lines=st.lists(st.sampled_from(GLOBS), max_size=4), path=st.sampled_from(PATHS))
def test_ignore_files_are_read_as_git_reads_them(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], path: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "rules"
    file.write_text("\n".join(lines))
    rules = list(_rules(file, ""))
    parents = ["/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 1)]
    within = any(_ignored(rules, parent, is_folder=True) for parent in parents)
    theirs = GitIgnoreSpec.from_lines(lines).match_file(path)
    # What git says of an ignored folder, no later rule can take back; the library lets it.
    assert (within or _ignored(rules, path, is_folder=False)) == (theirs or within)


def test_rules_of_a_folder_hold_below_it_alone(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "made.py").write_text(FUNCTION)
        (tmp_path / folder / "kept.py").write_text(FUNCTION)
    (tmp_path / "one" / ".ignore").write_text("/made.py\n")
    reading = read_folder(tmp_path)
    assert reading.skipped == {"ignored": 1}
    assert reading.haystack.files == 3

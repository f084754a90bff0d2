"""Filler cut from real Python code: the standard library of the running interpreter, or a folder of the user's own.

Code is parsed and never imported or run. It is cut into whole units: functions, classes, stretches of other statements.
What does not parse by itself, what an editor and a parser would count in different lines, and what looks like an
answer, is left out. `latbench/needle/folder.py` says which files of a folder are read at all.
"""

import ast
import io
import re
import sysconfig
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from latbench.model.errors import UserError
from latbench.needle.counting import Piece, piece
from latbench.needle.dice import Dice
from latbench.needle.haystack import PATH_MARK, VERSION, File, header
from latbench.needle.style import Names, Style

LONGEST_LINE = 300
LARGEST_UNIT = 6_000  # characters
_LEFT_TO_CLOSERS = 60  # tokens
_STDLIB_LEAST_CHARS = 3_000
_STDLIB_LEAST_DEFINITIONS = 5
_NOT_FILLER = ("test", "tests", "idlelib", "lib2to3", "site-packages", "turtledemo", "__pycache__")
_DEFINES = re.compile(r"^(?:async def|def|class) ", re.MULTILINE)
_STYLE_CHARS = 2_000_000  # are looked at for the style
_LINE_BREAKS = re.compile("[\ufffd\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_LIKE_AN_ANSWER = re.compile(rf"^\W*answer\s*:|^{PATH_MARK}|```", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """A file as it was read: its path below the folder, and its text."""

    path: str
    text: str


class Harvest:
    """Filler from source files. Files keep their units in order; which files come, and where, is drawn.

    A file is parsed and counted when it is first drawn.
    """

    loose = False

    def __init__(self, source: str, files: Iterable[Source], *, strip_comments: bool = False) -> None:
        """`source` is `stdlib` or `folder`. Raises UserError where there is no file."""
        self.source = source
        self._files = sorted(files, key=lambda file: file.path)
        self._strip_comments = strip_comments
        self._counted: dict[str, File] = {}
        if not self._files:
            raise UserError(f"{source}: no Python code that can be used as filler")

    @cached_property
    def sha256(self) -> str:
        """Of all files: prompts from others are others."""
        digest = sha256(f"{VERSION} {self._strip_comments}".encode())
        for file in self._files:
            digest.update(f"\0{file.path}\0{file.text}".encode())
        return digest.hexdigest()

    @cached_property
    def bytes(self) -> int:
        """All code that may be sent, in UTF-8: the most that leaves the machine in one prompt."""
        return sum(len(file.text.encode()) for file in self._files)

    @cached_property
    def files(self) -> int:
        """How many files may be sent."""
        return len(self._files)

    @cached_property
    def _style(self) -> Style:
        return style_of("\n".join(file.text for file in self._files)[:_STYLE_CHARS])

    def style(self, dice: Dice) -> Style:
        """The style of most of this code, in every block."""
        del dice
        return self._style

    def filler(self, names: Names, budget: int, usable: Callable[[str], bool], avoid: str) -> list[File]:
        """Files in random order until there is enough; of the last one a part."""
        del avoid  # real code has none of our families
        chosen: list[File] = []
        wanted = budget
        seen: set[str] = set()  # the same helper may stand in several files
        for source in names.dice.shuffled(self._files):
            if budget < _LEFT_TO_CLOSERS:
                return chosen
            file = self._count(source)
            kept: list[Piece] = []
            room = budget - file.header.tokens
            for unit in file.units:
                if unit.tokens <= room and unit.text not in seen and usable(unit.text):
                    seen.add(unit.text)
                    kept.append(unit)
                    room -= unit.tokens
            if kept:
                chosen.append(File(file.header, tuple(kept)))
                budget = room
        if budget >= max(_LEFT_TO_CLOSERS, wanted // 100):
            raise UserError(
                f"{self.source}: too little code for a prompt of that length without repeating any: it has "
                f"{wanted - budget:,} of {wanted:,} tokens of filler; ask for that much less, or for generated code"
            )
        return chosen

    def _count(self, source: Source) -> File:
        """The file with its tokens, counted when it is first used."""
        if source.path not in self._counted:
            units = units_of(source.text, strip_comments=self._strip_comments)
            self._counted[source.path] = File(header(source.path), tuple(piece(unit) for unit in units))
        return self._counted[source.path]


def stdlib(*, strip_comments: bool = False) -> Harvest:
    """The standard library of this interpreter, without its tests, and without files that hold little code."""
    root = Path(sysconfig.get_path("stdlib"))
    sources = []
    for path in sorted(root.rglob("*.py")):
        below = path.relative_to(root)
        if any(part in _NOT_FILLER or part.startswith("config-") for part in below.parts):
            continue
        text = path.read_bytes().decode(errors="replace")
        if len(text) >= _STDLIB_LEAST_CHARS and len(_DEFINES.findall(text)) >= _STDLIB_LEAST_DEFINITIONS:
            sources.append(Source(below.as_posix(), text))
    return Harvest("stdlib", sources, strip_comments=strip_comments)


def units_of(text: str, *, strip_comments: bool = False) -> Iterator[str]:
    """The usable units of a file, in order. Nothing where it does not parse."""
    text = text.replace("\r\n", "\n").removeprefix("\ufeff")
    if strip_comments:
        text = without_comments(text)
    lines = text.split("\n")
    try:
        spans = list(_spans(ast.parse(text).body))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    end = 0
    for first, last in spans:
        unit = _between(lines, end, first, last)
        end = last
        if _is_sound(unit):
            yield unit


def _spans(body: list[ast.stmt]) -> Iterator[tuple[int, int]]:
    """First and last line of each unit, from 1; statements that are no definitions go together."""
    open_first = open_last = 0
    for node in body:
        decorators = getattr(node, "decorator_list", [])
        first, last = min([node.lineno, *(one.lineno for one in decorators)]), node.end_lineno or node.lineno
        defines = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            continue
        if open_last and (defines or last - open_first > 20):
            yield open_first, open_last
            open_first = open_last = 0
        if defines:
            yield first, last
        else:
            open_first, open_last = open_first or first, last
    if open_last:
        yield open_first, open_last


def _between(lines: list[str], end: int, first: int, last: int) -> str:
    """A unit with the comments that stand directly above it, after line `end`."""
    while first - 1 > end and lines[first - 2].startswith("#"):
        first -= 1
    return "\n".join(lines[first - 1 : last]).rstrip() + "\n\n\n"


def _is_sound(unit: str) -> bool:
    """Whether a unit parses by itself, in the lines that everybody sees, and holds nothing like an answer of ours."""
    if len(unit) > LARGEST_UNIT or _LINE_BREAKS.search(unit) or _LIKE_AN_ANSWER.search(unit) or unit[0].isspace():
        return False
    if any(len(line) > LONGEST_LINE for line in unit.split("\n")):
        return False
    try:
        return bool(ast.parse(unit).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def without_comments(text: str) -> str:
    """Code without its comments; lines that held nothing else are gone. As it was where it cannot be read."""
    lines = text.split("\n")
    dropped: set[int] = set()
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][:column].rstrip()
                if not lines[row - 1]:
                    dropped.add(row - 1)
    except (tokenize.TokenError, SyntaxError):
        return text
    return "\n".join(line for number, line in enumerate(lines) if number not in dropped)


def style_of(code: str) -> Style:
    """The style that most of the code has, so that what is planted is written like it."""
    indents = [len(indent) for indent in re.findall(r"^( +)\S", code[:400_000], re.MULTILINE)]
    tabs = len(re.findall(r"^\t+\S", code[:400_000], re.MULTILINE))
    halves = sum(width % 4 == 2 for width in indents)
    style = Style()
    if tabs > len(indents):
        style = replace(style, indent="\t")
    elif indents and halves > len(indents) / 4:
        style = replace(style, indent="  ")
    heads = re.findall(r"^\s*(?:async )?def (\w+)\((.*)$", code, re.MULTILINE)
    many = max(len(heads), 1)
    bodies = len(re.findall(r'^\s*(?:async )?def .*:\n\s+[rR]?"""', code, re.MULTILINE))
    return replace(
        style,
        quote="'" if code.count("'") > code.count('"') - 6 * bodies else '"',
        annotated=sum(": " in arguments or "->" in arguments for _, arguments in heads) > many / 2,
        camel=sum(bool(re.search(r"[a-z][A-Z]", name)) for name, _ in heads) > many / 2,
        docstrings=round(min(1.0, bodies / many), 2),
        comments=round(min(0.5, len(re.findall(r"^\s+#", code, re.MULTILINE)) / many), 2),
    )

"""Traces: arrivals read from a file of CSV with a header, or of JSON lines.

A line has an `offset` from the start of the step (seconds, or a duration such as 250ms). It may name a `prompt`, or
ask for one of about so many `input_tokens`, and bound its answer by `output_tokens`. Which prompt a length stands for
is a function of the seed and the line alone. All mistakes in a file are reported at once, one a line.
"""

import csv
import hashlib
import json
import re
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import NoReturn

from latbench.model.errors import UserError
from latbench.model.load import Trace
from latbench.scenario.files import read_bytes, shown, text_of
from latbench.scenario.grammar import LONGEST_NS, UNITS_NS, nearest, parse_duration, parse_size
from latbench.scenario.prompts import PromptSet

KEYS = ("offset", "prompt", "input_tokens", "output_tokens")

_MOST_PROBLEMS = 20
_MOST_TOKENS = 2**31 - 1  # an int32 travels
_SECONDS = re.compile(r"-?\d{1,30}(\.\d{1,30})?([eE][+-]?\d{1,2})?")

Row = Mapping[str, str]
"""One arrival as written: the keys that have a value, as texts."""


class _Problems:
    """The mistakes of one file, at most as many as a person reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []
        self._more = 0

    def add(self, line: int, message: str) -> None:
        if len(self._lines) < _MOST_PROBLEMS:
            self._lines.append(f"{shown(self._path)}:{line}: {message}")
        else:
            self._more += 1

    def refuse(self) -> None:
        """Raises UserError if there is any."""
        if self._lines:
            more = [f"{shown(self._path)}: and {self._more} more"] if self._more else []
            raise UserError("\n".join(self._lines + more))


@dataclass(frozen=True)
class TraceFile:
    """The arrivals of a file by column. `lines` count from 1; tokens are 0 and a prompt None where none are given.

    `sha256` is of the bytes of the file.
    """

    path: Path
    sha256: str
    lines: Sequence[int]
    offsets_ns: Sequence[int]
    prompts: Sequence[str | None]
    input_tokens: Sequence[int]
    output_tokens: Sequence[int]

    def resolve(self, name: str, prompts: PromptSet, seed: int) -> Trace:
        """The arrivals with the prompts that they stand for; `name` is the path as it is written.

        Raises UserError for an id that the run does not draw from.
        """
        self._check(prompts)
        numbers: dict[str, int] = {}
        chosen = array("i")
        by_length = _ByLength(prompts, seed)
        for line, prompt, tokens in zip(self.lines, self.prompts, self.input_tokens, strict=True):
            named = by_length.draw(tokens, line) if tokens else prompt
            chosen.append(-1 if named is None else numbers.setdefault(named, len(numbers)))
        count = len(self.lines)
        return Trace(
            path=name,
            offsets_ns=struct.pack(f"<{count}q", *self.offsets_ns),
            prompt=struct.pack(f"<{count}i", *chosen),
            max_tokens=struct.pack(f"<{count}i", *self.output_tokens),
            prompt_ids=tuple(numbers),
        )

    def _check(self, prompts: PromptSet) -> None:
        tasks = {prompt.id: prompt.task for prompt in prompts.prompts}
        drawn = [prompt for prompt, task in tasks.items() if task in prompts.weights]
        problems = _Problems(self.path)
        for line, prompt in zip(self.lines, self.prompts, strict=True):
            if prompt is None:
                continue
            if prompt not in tasks:
                problems.add(line, f"prompt: no prompt {json.dumps(prompt)}; {_some(prompt, drawn)}")
            elif tasks[prompt] not in prompts.weights:
                problems.add(line, f"prompt: {prompt} is of task {tasks[prompt]}, which prompts.tasks leaves out")
        problems.refuse()


def _some(word: str, among: Sequence[str]) -> str:
    advice = nearest(word, among)
    return advice if advice.startswith("did") else f"the scenario has {len(among)}, as {among[0]}"


class _ByLength:
    """Draws a prompt of about so many tokens: any within 10 %, or of those that are nearest."""

    def __init__(self, prompts: PromptSet, seed: int) -> None:
        drawn = sorted((prompt.tokens, prompt.id) for prompt in prompts.prompts if prompt.task in prompts.weights)
        self._lengths = [tokens for tokens, _ in drawn]
        self._ids = [prompt for _, prompt in drawn]
        self._seed = seed

    def draw(self, tokens: int, line: int) -> str:
        at = bisect_left(self._lengths, tokens)
        nearest_by = min(abs(length - tokens) for length in self._lengths[max(0, at - 1) : at + 1])
        within = max(nearest_by, tokens // 10)
        low, high = bisect_left(self._lengths, tokens - within), bisect_right(self._lengths, tokens + within)
        digest = hashlib.blake2b(f"{self._seed}:{line}".encode(), digest_size=8, person=b"latbench-trace").digest()
        return self._ids[low + int.from_bytes(digest, "big") % (high - low)]


def read_trace(path: Path) -> TraceFile:
    """Read a trace. Raises UserError with the line of each mistake."""
    data = read_bytes(path)
    text = text_of(data, path)
    problems = _Problems(path)
    if path.suffix == ".csv":
        rows = _csv_rows(text, problems)
    elif path.suffix in (".jsonl", ".ndjson"):
        rows = _json_rows(text, problems)
    else:
        raise UserError(f"{shown(path)}: not a kind of file that holds a trace; there are *.csv and *.jsonl")
    lines, offsets, prompts = array("q"), array("q"), list[str | None]()
    lengths, limits = array("i"), array("i")
    for line, row in rows:
        try:
            offset_ns = _offset_ns(row, offsets[-1] if offsets else 0)
            if "prompt" in row and "input_tokens" in row:
                raise ValueError("prompt and input_tokens: either one; a prompt has its own length")
            tokens = _tokens(row, "input_tokens"), _tokens(row, "output_tokens")
        except ValueError as error:
            problems.add(line, str(error))
            continue
        lines.append(line)
        offsets.append(offset_ns)
        prompts.append(row.get("prompt"))
        lengths.append(tokens[0])
        limits.append(tokens[1])
    problems.refuse()
    if not lines:
        raise UserError(f"{shown(path)}: holds no arrival; each line needs an offset")
    return TraceFile(path, hashlib.sha256(data).hexdigest(), lines, offsets, prompts, lengths, limits)


def _csv_rows(text: str, problems: _Problems) -> Iterator[tuple[int, Row]]:
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    head: list[str] | None = None
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if head is None:
                head = cells
                if not _known_keys(head, reader.line_num, problems):
                    return
            elif len(cells) != len(head):
                problems.add(reader.line_num, f"{len(cells)} cells under a header of {len(head)}")
            else:
                yield reader.line_num, {key: cell for key, cell in zip(head, cells, strict=True) if cell}
    except csv.Error as error:
        problems.add(reader.line_num, f"not CSV: {error}")


def _json_rows(text: str, problems: _Problems) -> Iterator[tuple[int, Row]]:
    for line, written in enumerate(text.split("\n"), start=1):
        if not written.strip():
            continue
        try:
            # Numbers as they are written: nothing is rounded on the way.
            row = json.loads(written, parse_float=str, parse_int=str, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            problems.add(line, f"not JSON: {getattr(error, 'msg', error)}")
            continue
        if not isinstance(row, dict):
            problems.add(line, 'not an arrival; write a mapping such as {"offset": 1.5}')
        elif _known_keys(list(row), line, problems):
            given = {key: value for key, value in row.items() if value is not None}
            wrong = [key for key, value in given.items() if not isinstance(value, str)]
            if wrong:
                problems.add(line, f"{wrong[0]}: must be a number or text")
            else:
                yield line, given


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _known_keys(keys: Sequence[str], line: int, problems: _Problems) -> bool:
    unknown = [key for key in keys if key not in KEYS]
    for key in unknown:
        problems.add(line, f"{json.dumps(key)}: unknown; {nearest(key, KEYS)}")
    twice = len(set(keys)) < len(keys)
    if twice:
        problems.add(line, "a column is there twice; keep one")
    missing = "offset" not in keys and not unknown
    if missing:
        problems.add(line, "offset: missing; add it")
    return not (unknown or twice or missing)


def _offset_ns(row: Row, last_ns: int) -> int:
    text = row.get("offset", "")
    if _SECONDS.fullmatch(text):
        ns = Decimal(text) * UNITS_NS["s"]
        if ns < 0:
            raise ValueError("offset: must not be negative; it counts from the start of the step")
        if ns > LONGEST_NS:
            raise ValueError("offset: too late; at most 8760h after the start")
        offset_ns = int(ns.to_integral_value())
    elif text:
        try:
            offset_ns = parse_duration(text)
        except ValueError as error:
            raise ValueError("offset: neither seconds nor a duration; write 1.5 or 250ms") from error
    else:
        raise ValueError("offset: missing; add it")
    if offset_ns < last_ns:
        raise ValueError("offset: before the line above it; sort the lines by offset")
    return offset_ns


def _tokens(row: Row, key: str) -> int:
    if key not in row:
        return 0
    try:
        tokens = parse_size(row[key])
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
    if not 1 <= tokens <= _MOST_TOKENS:
        raise ValueError(f"{key}: must be between 1 and {_MOST_TOKENS}")
    return tokens

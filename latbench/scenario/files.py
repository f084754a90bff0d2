"""Files as people write them: text with the true line of every mistake, and YAML as plain data.

YAML is read as a tree of nodes, so that every message can name the true line; what YAML 1.1 makes of `off` or `1:30`
is taken as the text it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from latbench.model.errors import UserError
from latbench.scenario.grammar import KeyPath, format_key

MAX_FILE_BYTES = 20 * 2**20
_MAX_NODES = 1_000_000
_TAG = "tag:yaml.org,2002:"

# The parser in C reads a whole prompt pack in a fraction of a second; both give the same nodes.
_YAML_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def shown(path: Path) -> str:
    """A path as messages name it: relative where it lies below the working directory."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file. Raises UserError for what is missing, unreadable or huge."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{shown(path)}: larger than {MAX_FILE_BYTES // 2**20} MB; split it")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{shown(path)}: cannot be read: {error.strerror}") from error


def read_text(path: Path) -> str:
    """The text of a UTF-8 file. Raises UserError for what is missing, unreadable, huge or not text."""
    return text_of(read_bytes(path), path)


def text_of(data: bytes, path: Path) -> str:
    """UTF-8 without a byte order mark. Raises UserError for what is not text; `path` is where it came from."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{shown(path)}:{line}: not UTF-8 text; save it as UTF-8") from error
    if "\0" in text:
        raise UserError(f"{shown(path)}: a binary file; only text can be read")
    return text


@dataclass(frozen=True)
class Document:
    """The data of a YAML file, and the line of each value in it (a key's line for what stands in a mapping)."""

    path: Path
    data: Any
    lines: Mapping[KeyPath, int]

    def where(self, key: KeyPath) -> str:
        """`file:line: key`. An index into what is written as a single value is left out."""
        kept: KeyPath = ()
        line = self.lines[()]
        for part in key:
            if (*kept, part) in self.lines:
                line = self.lines[(*kept, part)]
            elif isinstance(part, int):
                continue
            kept = (*kept, part)
        return f"{shown(self.path)}:{line}" + (f": {format_key(kept)}" if kept else "")


def read_yaml(path: Path) -> Document:
    """A file with one YAML document of plain data. Raises UserError with the line of each mistake."""
    text = read_text(path)
    try:
        node = yaml.compose(text, Loader=_YAML_LOADER)
        if node is None:
            raise UserError(f"{shown(path)}: the file is empty")
        reader = _NodeReader()
        data = reader.value(node, ())
    except yaml.MarkedYAMLError as error:
        raise UserError(_syntax_error(path, text, error)) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"{shown(path)}:{line}: a control character, which YAML does not allow; remove it") from error
    except RecursionError as error:
        raise UserError(f"{shown(path)}: nested too deeply") from error
    document = Document(path, data, reader.lines)
    if reader.problems:
        raise UserError("\n".join(located(document, reader.problems)))
    return document


def _syntax_error(path: Path, text: str, error: yaml.MarkedYAMLError) -> str:
    line = error.problem_mark.line if error.problem_mark else 0
    lines = text.splitlines()
    # The parser may see a tab's harm only on the line after it.
    for index in (line, line - 1):
        if 0 <= index < len(lines) and "\t" in lines[index][: len(lines[index]) - len(lines[index].lstrip())]:
            return f"{shown(path)}:{index + 1}: a tab at the start of a line; indent with spaces"
    return f"{shown(path)}:{line + 1}: not YAML: {error.problem}"


def located(document: Document, problems: list[tuple[KeyPath, str]]) -> list[str]:
    """A line for each problem: its place, and what is wrong there."""
    return [f"{document.where(key)}: {message}" for key, message in problems]


class _NodeReader:
    """Turns YAML nodes into plain data (what JSON can say), collecting lines and problems on the way."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[tuple[KeyPath, str]] = []
        self._open: set[int] = set()

    def value(self, node: yaml.Node, path: KeyPath) -> Any:  # noqa: ANN401 - any plain data
        self.lines.setdefault(path, node.start_mark.line + 1)
        if len(self.lines) > _MAX_NODES:
            raise yaml.MarkedYAMLError(problem="too many values", problem_mark=node.start_mark)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            raise yaml.MarkedYAMLError(problem="an alias inside of what it stands for", problem_mark=node.start_mark)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        finally:
            self._open.remove(id(node))
        self._refuse_tag(node, path)
        return None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            name = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if name is None or name == "<<" or key_node.tag == _TAG + "null":
                line = key_node.start_mark.line + 1
                self.lines.setdefault((*path, f"line {line}"), line)
                self.problems.append(((*path, f"line {line}"), "not a key; write it as text"))
                continue
            key = (*path, name)
            if name in result:
                self.problems.append((key, f"written twice, again in line {key_node.start_mark.line + 1}; keep one"))
                continue
            self.lines[key] = key_node.start_mark.line + 1
            result[name] = self.value(value_node, key)
        return result

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> str | int | float | bool | None:
        text, kind = node.value, node.tag.removeprefix(_TAG)
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in ("true", "false"):
            return bool(text.lower() == "true")
        if kind in ("int", "float"):
            try:
                return int(text, 16 if text.lower().startswith("0x") else 10) if kind == "int" else float(text)
            except ValueError:
                # Octals, binaries, base 60 and `.inf` are what nobody meant here.
                return str(text)
        if kind in ("str", "bool", "timestamp", "value"):
            return str(text)
        self._refuse_tag(node, path)
        return None

    def _refuse_tag(self, node: yaml.Node, path: KeyPath) -> None:
        self.problems.append((path, f"the tag {node.tag.replace(_TAG, '!!')} is not allowed; write plain data"))


def shipped_folder() -> Path:
    """The scenarios that come with latbench: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_shipped"
    return installed if installed.is_dir() else package.parent / "scenarios"

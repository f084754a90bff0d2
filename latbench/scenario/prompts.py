"""Prompts as they are sent: a pack with its manifest, or files of one's own.

A pack is a folder with `manifest.yaml`, `prompts/*.yaml` and context files. It is checked strictly and against the
hashes of its manifest, so that two runs with the same pack sent the same words. Files of one's own are taken in the
shapes that people's test cases have; what is not scored is kept in `Prompt.extra`. Context files come from below the
folder only.

The order of a set is that of its ids: it is part of what a seed draws.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import msgspec

from latbench.model.errors import UserError
from latbench.model.request import Fill, Message, Prompt
from latbench.scenario.files import read_text, read_yaml, shipped_folder, shown
from latbench.scenario.grammar import nearest, parse_size
from latbench.scenario.schema import TASKS, PromptSettings
from latbench.scenario.tokens import count

_TEXT_KEYS = ("prompt", "question", "text", "input")
_ROLES = ("system", "developer", "user", "assistant")
_OWN_SUFFIXES = (".jsonl", ".json", ".yaml", ".yml", ".md", ".txt")
_RENDERED_KEYS = frozenset({"prompt", "system", "messages", "prefix", "suffix", "context_files"})
_PROMPT_KEYS = ("id", "task", "language", "tags", "complexity", "tier", "max_tokens", "expect")
_PACK_KEYS = (*_PROMPT_KEYS, *sorted(_RENDERED_KEYS))
_TASK_WORDS = {
    "generate": "generation",
    "complete": "completion",
    "debugging": "debug",
    "bug_fix": "debug",
    "bugfix": "debug",
    "refactoring": "refactor",
    "retrieval": "search",
}
_FENCE_TAGS = {
    ".go": "go",
    ".java": "java",
    ".js": "javascript",
    ".json": "json",
    ".md": "markdown",
    ".py": "python",
    ".rs": "rust",
    ".sh": "sh",
    ".sql": "sql",
    ".toml": "toml",
    ".ts": "typescript",
    ".tsx": "tsx",
    ".yaml": "yaml",
    ".yml": "yaml",
}
_FILL_IN = (
    "Fill in the code at <CURSOR>. Answer with the missing code only: no explanation, no code fence, "
    "nothing of what is already there."
)


@dataclass(frozen=True)
class PromptSet:
    """What a run draws from. `weights` are shares of the tasks and sum to 1; a task of weight 0 is left out of them."""

    name: str
    version: str
    sha256: str
    prompts: tuple[Prompt, ...]
    weights: dict[str, float]


NOTHING = PromptSet("", "", "", (), {})
"""What a scenario with needle trials draws from, until they are made."""


def load_prompts(settings: PromptSettings | None, base: Path, where: str = "prompts") -> PromptSet:
    """The prompts of a scenario. `base` is what a relative path is relative to, `where` begins messages about settings.

    A pack is looked up in ./scenarios, beside the scenario, then among those that come with latbench. Without settings
    there are none: what is sent is made, and not read.
    """
    if settings is None:
        return NOTHING
    if settings.pack is not None:
        folder = _find_pack(settings.pack, base, where)
        name, version, prompts = _load_pack(folder)
    else:
        path = base / str(settings.path)
        if (path / "manifest.yaml").is_file():
            name, version, prompts = _load_pack(path)
        else:
            name, version, prompts = path.stem, "", _load_own(path, where)
    prompts = sorted(prompts, key=lambda prompt: prompt.id)
    weights = _weights(settings.tasks, prompts, where)
    identity = json.dumps([[prompt.id, prompt.task, prompt.sha256] for prompt in prompts])
    return PromptSet(name, version, hashlib.sha256(identity.encode()).hexdigest(), tuple(prompts), weights)


def _find_pack(name: str, base: Path, where: str) -> Path:
    known: dict[str, Path] = {}
    for parent in (shipped_folder(), base, Path.cwd() / "scenarios"):
        known |= {file.parent.name: file.parent for file in parent.glob("*/manifest.yaml")}
    if name not in known:
        advice = nearest(name, sorted(known)) if known else "none was found"
        raise UserError(f'{where}.pack: no pack "{name}"; {advice}')
    return known[name]


def _weights(tasks: dict[Any, float], prompts: Sequence[Prompt], where: str) -> dict[str, float]:
    there = Counter(prompt.task for prompt in prompts)
    weights = {str(task): float(weight) for task, weight in tasks.items() if weight} or dict(there)
    for task in weights:
        if task not in there:
            raise UserError(
                f"{where}.tasks.{task}: no prompt has this task; remove it ({nearest(task, sorted(there))})"
            )
    total = sum(weights.values())
    return {task: weight / total for task, weight in sorted(weights.items())}


# --- packs ---


def read_pack(folder: Path) -> list[Prompt]:
    """The prompts of a pack as its files have them, sorted by id; not held against the manifest, tokens not counted."""
    files = sorted((folder / "prompts").glob("*.yaml"))
    if not files:
        raise UserError(f"{shown(folder)}: no prompts/*.yaml in it")
    reader = _Reader(folder, strict=True)
    return sorted(reader.unique(entry for file in files for entry in _yaml_entries(file)), key=lambda prompt: prompt.id)


def _load_pack(folder: Path) -> tuple[str, str, list[Prompt]]:
    manifest = read_yaml(folder / "manifest.yaml")
    data = manifest.data if isinstance(manifest.data, dict) else {}
    listed = data.get("prompts")
    if not isinstance(listed, dict) or not all(_is_listed(row) for row in listed.values()):
        raise UserError(f"{manifest.where(('prompts',))}: must map each id to {{sha256, tokens}}; {_write_it(folder)}")
    prompts = read_pack(folder)
    found = {prompt.id: prompt for prompt in prompts}
    for kind, ids in (
        ("not in the manifest", found.keys() - listed.keys()),
        ("in the manifest only", listed.keys() - found.keys()),
        ("changed", {id_ for id_ in found.keys() & listed.keys() if found[id_].sha256 != listed[id_]["sha256"]}),
    ):
        if ids:
            some = ", ".join(sorted(ids)[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
            raise UserError(
                f"{shown(manifest.path)}: the pack is not what its manifest says; {kind}: {some}; {_write_it(folder)}"
            )
    counted = [msgspec.structs.replace(prompt, tokens=listed[prompt.id]["tokens"]) for prompt in prompts]
    return str(data.get("name", folder.name)), str(data.get("version", "")), counted


def _is_listed(row: object) -> bool:
    return isinstance(row, dict) and isinstance(row.get("sha256"), str) and isinstance(row.get("tokens"), int)


def _write_it(folder: Path) -> str:
    return f"write it again with `python -m latbench.scenario.manifest {shown(folder)}`"


# --- files of one's own ---


def _load_own(path: Path, where: str) -> list[Prompt]:
    flag = where.startswith("--")
    at, base = (where, "working directory") if flag else (f"{where}.path", "scenario")
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _OWN_SUFFIXES and file.is_file())
        if not files:
            raise UserError(f"{at}: {shown(path)} holds none of *{', *'.join(_OWN_SUFFIXES)} (subfolders are not read)")
    elif path.is_file():
        files = [path]
    else:
        raise UserError(f"{at}: no such file or folder: {shown(path)} (paths are relative to the {base})")
    prompts: list[Prompt] = []
    reader = _Reader(files[0].parent, strict=False)
    for prompt in reader.unique(entry for file in files for entry in _entries(file)):
        text = "\n".join(message.content for message in prompt.messages)
        prompts.append(msgspec.structs.replace(prompt, tokens=count(text)))
    if not prompts:
        raise UserError(f"{at}: {shown(path)} holds no prompt")
    return prompts


@dataclass(frozen=True)
class _Entry:
    """One prompt as written, where it stands (`file:line`), and the id it has if it gives none."""

    data: dict[str, Any]
    where: str
    fallback_id: str


def _entries(file: Path) -> Iterator[_Entry]:
    if file.suffix in (".md", ".txt"):
        return iter(
            [_Entry({"id": file.stem, "task": "generation", "prompt": read_text(file)}, f"{shown(file)}:1", "")]
        )
    if file.suffix in (".yaml", ".yml"):
        return _yaml_entries(file)
    if file.suffix == ".json":
        return _numbered(file, _json_items(file))
    if file.suffix == ".jsonl":
        lines = enumerate(read_text(file).split("\n"), start=1)
        return _numbered(file, ((line, _json(text, file, line)) for line, text in lines if text.strip()))
    raise UserError(f"{shown(file)}: not a kind of file that holds prompts; there are *{', *'.join(_OWN_SUFFIXES)}")


def _yaml_entries(file: Path) -> Iterator[_Entry]:
    document = read_yaml(file)
    if isinstance(document.data, list):
        return _numbered(file, ((document.lines[(index,)], item) for index, item in enumerate(document.data)))
    return _numbered(file, [(document.lines[()], document.data)])


def _numbered(file: Path, items: Iterable[tuple[int, object]]) -> Iterator[_Entry]:
    on_line: Counter[int] = Counter()
    for line, item in items:
        if not isinstance(item, dict):
            raise UserError(f"{shown(file)}:{line}: a prompt must be a mapping with at least `prompt` or `messages`")
        on_line[line] += 1
        further = f".{on_line[line]}" if on_line[line] > 1 else ""
        yield _Entry(item, f"{shown(file)}:{line}", f"{file.stem}-{line}{further}")


def _json_items(file: Path) -> Iterator[tuple[int, object]]:
    """The items of the list in a JSON file, or the one mapping in it, with the line where each begins."""
    text = read_text(file)
    whole = _json(text, file, 1)
    decoder = json.JSONDecoder()
    end = 0
    for item in whole if isinstance(whole, list) else [whole]:
        start = _item_from(text, end)
        yield text.count("\n", 0, start) + 1, item
        _, end = decoder.raw_decode(text, start)


def _item_from(text: str, position: int) -> int:
    """Where the next item begins. What is not a mapping is refused before anything looks inside it."""
    while text[position] in " \t\r\n,[":
        position += 1
    return position


def _json(text: str, file: Path, line: int) -> object:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise UserError(f"{shown(file)}:{line + error.lineno - 1}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{shown(file)}:{line}: not JSON: {error}") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


# --- one prompt ---


class _Reader:
    """Makes prompts of entries. `strict` is for packs: needs id, task and language, refuses unknown keys."""

    def __init__(self, folder: Path, *, strict: bool) -> None:
        self._folder = folder
        self._root = folder.resolve()
        self._strict = strict
        self._context: dict[str, str] = {}

    def unique(self, entries: Iterator[_Entry]) -> Iterator[Prompt]:
        """The prompts of all entries. Raises UserError for an id that comes twice."""
        first: dict[str, str] = {}
        for entry in entries:
            prompt = self._prompt(entry)
            if prompt.id in first:
                raise UserError(f'{entry.where}: id: "{prompt.id}" is taken, see {first[prompt.id]}; ids must differ')
            first[prompt.id] = entry.where
            yield prompt

    def _prompt(self, entry: _Entry) -> Prompt:
        data = entry.data
        if self._strict:
            self._check_keys(entry)
        task, category = self._task(entry)
        tags = tuple(_texts(entry, "tags"))
        messages = self._messages(entry)
        if any("\ud800" <= letter <= "\udfff" for message in messages for letter in set(message.content)):
            raise UserError(f"{entry.where}: half of a surrogate pair, which no request can carry; remove the escape")
        identity = json.dumps([[message.role, message.content] for message in messages])
        used = _RENDERED_KEYS | set(_PROMPT_KEYS) | _text_keys_used(data)
        return Prompt(
            id=_id(entry),
            task=task,
            language=_text(entry, "language") or "unknown",
            messages=messages,
            tokens=0,
            sha256=hashlib.sha256(identity.encode()).hexdigest(),
            tags=tags if category is None or category in tags else (*tags, category),
            complexity=_text(entry, "complexity"),
            tier=_whole(entry, "tier"),
            max_tokens=_whole(entry, "max_tokens"),
            expect=data.get("expect"),
            extra={key: value for key, value in data.items() if key not in used},
            fill=_fill(entry),
        )

    def _check_keys(self, entry: _Entry) -> None:
        for key in entry.data:
            if key not in _PACK_KEYS:
                raise UserError(f"{entry.where}: {key}: unknown key; {nearest(key, _PACK_KEYS)}")
        for key in ("id", "task", "language"):
            if key not in entry.data:
                raise UserError(f"{entry.where}: {key}: missing; add it")

    def _task(self, entry: _Entry) -> tuple[str, str | None]:
        """The task, and the category where it is none of our tasks: that counts as generation and becomes a tag."""
        task = _text(entry, "task")
        if task is not None and task not in TASKS:
            raise UserError(f"{entry.where}: task: no task {json.dumps(task)}; {nearest(task, TASKS)}")
        category = _text(entry, "category") or _text(entry, "task_type")
        if task is not None or category is None:
            return task or "generation", None
        words = re.sub(r"[\s-]+", "_", category.strip().lower()).removeprefix("code_")
        known = _TASK_WORDS.get(words, words)
        return (known, None) if known in TASKS else ("generation", category)

    def _messages(self, entry: _Entry) -> tuple[Message, ...]:
        context = "".join(self._render(entry, name) for name in _texts(entry, "context_files"))
        if entry.data.get("messages") is not None:
            messages = _conversation(entry)
            at = next((index for index, message in enumerate(messages) if message.role == "user"), 0)
            messages[at] = Message(messages[at].role, context + messages[at].content)
            return tuple(messages)
        system = _text(entry, "system")
        user = Message("user", context + _own_text(entry))
        return (Message("system", system), user) if system else (user,)

    def _render(self, entry: _Entry, name: str) -> str:
        if name not in self._context:
            path = self._folder / name
            if not path.resolve().is_relative_to(self._root):
                raise UserError(
                    f"{entry.where}: context_files: {name} is outside of {shown(self._folder)}; copy it there"
                )
            if not path.is_file():
                raise UserError(
                    f"{entry.where}: context_files: no such file: {name} (relative to {shown(self._folder)})"
                )
            tag = _FENCE_TAGS.get(PurePosixPath(name).suffix, "")
            self._context[name] = f"File: {name}\n\n{_fenced(read_text(path), tag)}\n\n"
        return self._context[name]


def _id(entry: _Entry) -> str:
    value = entry.data.get("id", entry.fallback_id)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise UserError(f"{entry.where}: id: must be text that can be printed")
    return value


def _fenced(text: str, tag: str) -> str:
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`{3,}", text))])
    return f"{fence}{tag}\n{text}{'' if text.endswith(chr(10)) else chr(10)}{fence}"


def _text_keys_used(data: dict[str, Any]) -> set[str]:
    """Which synonyms of `prompt` make the text: the first one there, and `instruction` before it."""
    used = {"instruction"} if data.get("instruction") else set()
    main = next((key for key in _TEXT_KEYS if data.get(key)), None)
    return used if main is None else used | {main}


def _own_text(entry: _Entry) -> str:
    keys = _text_keys_used(entry.data)
    texts = [_text(entry, key) for key in ("instruction", *_TEXT_KEYS) if key in keys]
    prefix, suffix = _text(entry, "prefix"), _text(entry, "suffix")
    if prefix is not None or suffix is not None:
        tag = _text(entry, "language") or ""
        texts += [_FILL_IN, _fenced(f"{prefix or ''}<CURSOR>{suffix or ''}", tag)]
    text = "\n\n".join(text for text in texts if text)
    if not text.strip():
        raise UserError(f"{entry.where}: prompt: missing; give prompt, messages, or prefix and suffix")
    return text


def _fill(entry: _Entry) -> Fill | None:
    """The gap of a prompt that is nothing else. What says more goes out in words, because a gap has no place for it."""
    prefix, suffix = _text(entry, "prefix"), _text(entry, "suffix")
    more = _text_keys_used(entry.data) or any(entry.data.get(key) for key in ("messages", "system", "context_files"))
    return Fill(prefix or "", suffix or "") if (prefix or suffix) and not more else None


def _conversation(entry: _Entry) -> list[Message]:
    turns = entry.data["messages"]
    if not isinstance(turns, list) or not turns:
        raise UserError(f"{entry.where}: messages: must be a list of {{role, content}}")
    messages = []
    for index, turn in enumerate(turns):
        role, content = (turn.get("role"), turn.get("content")) if isinstance(turn, dict) else (None, None)
        if isinstance(content, list):
            content = "\n".join(part["text"] for part in content) if all(map(_is_text_part, content)) else None
        if role not in _ROLES or not isinstance(content, str):
            raise UserError(
                f"{entry.where}: messages[{index}]: needs content that is text, and a role: {', '.join(_ROLES)}"
            )
        messages.append(Message(str(role), content))
    return messages


def _is_text_part(part: object) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)


def _text(entry: _Entry, key: str) -> str | None:
    value = entry.data.get(key)
    if value is not None and not isinstance(value, str):
        raise UserError(f"{entry.where}: {key}: must be text; put it in quotes")
    return value


def _texts(entry: _Entry, key: str) -> list[str]:
    value = entry.data.get(key)
    values = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) and item for item in values):
        raise UserError(f"{entry.where}: {key}: must be a list of texts")
    return values


def _whole(entry: _Entry, key: str) -> int | None:
    value = entry.data.get(key)
    if value is None:
        return None
    try:
        number = parse_size(value)
    except ValueError as error:
        raise UserError(f"{entry.where}: {key}: {error}") from error
    if number < 1:
        raise UserError(f"{entry.where}: {key}: must be at least 1")
    return number

"""Which files of a user's folder are read as filler, and why the others are not.

Only Python files, never a link, nothing that an ignore file of the folder excludes (`.gitignore`, `.ignore`), nothing
that may hold a secret, nothing large. What is left out is counted by its reason, and how many bytes could leave the
machine is part of what comes back: the caller says so before anything is sent.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from latbench.model.errors import UserError
from latbench.needle.harvest import Harvest, Source

MAX_FILE_BYTES = 200_000
IGNORE_FILES = (".gitignore", ".ignore")
_NEVER = {".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".tox", "site-packages"}
_SECRET_NAMES = re.compile(
    r"secret|credential|password|passwd|private_?key|api_?keys?|(^|[._/-])env([._/-]|$)", re.IGNORECASE
)
_SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{20}"
    r"|\bsk-[\w-]{20,}|\bxox[abposr]-[\w-]{10,}|\bAIza[\w-]{35}|\bhf_[A-Za-z]{30,}"
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\."
    r"|://[^\s/:@'\"{}<>]+:[^\s/@'\"{}<>]{3,}@"
    r"|(?i:(?:password|passwd|secret|token|api_?key|access_?key)[\w]*[\"']?\s*[:=]\s*[rbf]?[\"'][^\"'\s{}<>]{8,}[\"'])"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """A folder as filler. `skipped` counts files by the reason why they are left out."""

    haystack: Harvest
    skipped: dict[str, int]

    @property
    def bytes(self) -> int:
        """The most that may leave the machine in one prompt."""
        return self.haystack.bytes


def read_folder(folder: Path, *, strip_comments: bool = False) -> Reading:
    """The usable Python code below a folder. Raises UserError where there is no folder, or nothing to use."""
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder; name one with Python code in it")
    skipped: Counter[str] = Counter()
    sources = []
    for path, below in _python_files(folder, skipped):
        text = _text(path, below, skipped)
        if text is not None:
            sources.append(Source(below, text))
    if not sources:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items())) or "no file ends in .py"
        raise UserError(f"{folder}: no Python code that can be used as filler ({reasons})")
    return Reading(Harvest("folder", sources, strip_comments=strip_comments), dict(sorted(skipped.items())))


def _text(path: Path, below: str, skipped: Counter[str]) -> str | None:
    """The text of a file, or None and the reason counted."""
    if _SECRET_NAMES.search(below):
        reason = "named like a secret"
    elif path.stat().st_size > MAX_FILE_BYTES:
        reason = f"larger than {MAX_FILE_BYTES // 1000} kB"
    else:
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except (UnicodeDecodeError, OSError):
            reason = "not readable as UTF-8"
        else:
            if not _SECRETS.search(text):
                return text
            reason = "with what may be a secret"
    skipped[reason] += 1
    return None


def _python_files(folder: Path, skipped: Counter[str]) -> Iterator[tuple[Path, str]]:
    """Python files below the folder in the order of their names, with their path below it."""
    rules: dict[str, list[_Rule]] = {}
    for place, folders, names in os.walk(folder):
        below = Path(place).relative_to(folder).as_posix()
        prefix = "" if below == "." else f"{below}/"
        here = [rule for name in IGNORE_FILES if name in names for rule in _rules(Path(place) / name, prefix)]
        rules[prefix] = rules.get(_parent(prefix), []) + here if prefix else here
        folders[:] = sorted(
            name
            for name in folders
            if name not in _NEVER
            and not (Path(place) / name).is_symlink()
            and not _ignored(rules[prefix], f"{prefix}{name}", is_folder=True)
        )
        for name in sorted(names):
            if not name.endswith(".py"):
                continue
            if (Path(place) / name).is_symlink():
                skipped["links"] += 1
            elif _ignored(rules[prefix], f"{prefix}{name}", is_folder=False):
                skipped["ignored"] += 1
            else:
                yield Path(place) / name, f"{prefix}{name}"


def _parent(prefix: str) -> str:
    head, _, _ = prefix.rstrip("/").rpartition("/")
    return f"{head}/" if head else ""


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: re.Pattern[str]
    only_folders: bool
    ignores: bool


def _rules(path: Path, prefix: str) -> Iterator[_Rule]:
    """The rules of an ignore file, as git reads them; they hold below its folder."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        line = re.sub(r"(?<!\\)\s+$", "", line)
        if not line or line.startswith("#"):
            continue
        ignores = not line.startswith("!")
        line = line.removeprefix("!").removeprefix("\\")
        only_folders = line.endswith("/")
        line = line.rstrip("/")
        anchored = "/" in line
        try:
            body = _translated(line.lstrip("/"))
            pattern = re.compile(re.escape(prefix) + ("" if anchored else "(?:.*/)?") + body)
        except re.error:
            continue  # git ignores a pattern that it cannot read
        yield _Rule(pattern, only_folders, ignores)


def _translated(glob: str) -> str:
    """A pattern of an ignore file as a regular expression."""
    result = ""
    parts = re.split(r"(\*\*/|/\*\*$|\*\*|\*|\?|\[[^\]]+\])", glob)
    for part in parts:
        if part == "**/":
            result += "(?:.*/)?"
        elif part == "/**":
            result += "/.+"
        elif part in ("*", "**"):
            result += "[^/]*"
        elif part == "?":
            result += "[^/]"
        elif part.startswith("[") and part.endswith("]") and len(part) > 2:
            inner = part[1:-1].replace("\\", "\\\\")
            result += f"[^{inner[1:]}]" if inner[0] in "!^" else f"[{inner}]"
        else:
            result += re.escape(part.replace("\\", ""))
    return result


def _ignored(rules: list[_Rule], path: str, *, is_folder: bool) -> bool:
    """Whether the last rule that fits says so."""
    for rule in reversed(rules):
        if (is_folder or not rule.only_folders) and rule.pattern.fullmatch(path):
            return rule.ignores
    return False

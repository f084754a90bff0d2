"""The run directory: what people pass on. `summary.json`, `report.md`, the resolved scenario without secrets.

The texts are made elsewhere. A file is there whole or not at all, whenever the process dies: it is written beside its
name and then renamed.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from latbench.model.errors import UserError
from latbench.store.errors import StoreError

SCENARIO = "scenario.yaml"
SUMMARY = "summary.json"
REPORT = "report.md"

_NAME_CHARS = 60


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """An existing directory that belongs to one run."""

    path: Path

    @classmethod
    def create(cls, base: Path, out: Path | None, started_at: str, name: str, run_id: str) -> Self:
        """`out` itself, or `<base>/<time>-<name>-<id>`; missing parents are made.

        `started_at` is the run's start in ISO 8601. Raises UserError where the directory holds anything or cannot be
        made.
        """
        path = out if out is not None else base / _directory_name(started_at, name, run_id)
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise UserError(f"{path}: the run directory is not empty; name an absent or empty one with --out")
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(f"{path}: cannot be the run directory ({reason}); name another one with --out") from error
        return cls(path)

    def write_atomic(self, name: str, text: str) -> Path:
        """Writes or replaces the file `name`. Raises StoreError where the disk fails; an old file then stays."""
        target = self.path / name
        draft = self.path / f".{name}.tmp"
        try:
            try:
                with draft.open("w", encoding="utf-8", newline="\n") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(target)
            finally:
                draft.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{target}: cannot be written ({error.strerror or error})") from error
        return target


def _directory_name(started_at: str, name: str, run_id: str) -> str:
    """Safe on every file system, and sorted by time."""
    time = re.sub(r"[^0-9TZ]", "", started_at.partition(".")[0])
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:_NAME_CHARS].strip("-.") or "run"
    return f"{time}-{safe}-{run_id}"

"""Prompts in groups: what slices by task, language, tag and input length are put together from."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from latbench.analysis.columns import UNKNOWN_GROUP

SLICES = ("by_task", "by_language", "by_tag", "by_input_length")
UNKNOWN = "unknown"

_LENGTH_BINS = ((500, "0-500"), (2_000, "500-2k"), (8_000, "2k-8k"), (32_000, "8k-32k"))
_LONGEST = "32k+"
_LENGTHS = (*(name for _, name in _LENGTH_BINS), _LONGEST)


class PromptInfo(msgspec.Struct, frozen=True):
    """What slicing needs to know of a prompt. `tokens` counts its text with o200k_base."""

    task: str
    language: str
    tags: tuple[str, ...]
    tokens: int
    sha256: str


def length_bin(tokens: int) -> str:
    """The bin of an input length; a bin holds its lower bound and not its upper one."""
    return next((name for limit, name in _LENGTH_BINS if tokens < limit), _LONGEST)


class Groups:
    """Prompts that no slice tells apart, numbered. Number 0 is for prompts that the run knows nothing about."""

    def __init__(self, prompts: Mapping[str, PromptInfo]) -> None:
        labels: dict[tuple[str, str, tuple[str, ...], str], int] = {(UNKNOWN, UNKNOWN, (), UNKNOWN): UNKNOWN_GROUP}
        self.of_prompt = {
            prompt_id: labels.setdefault(
                (info.task, info.language, tuple(sorted(set(info.tags))), length_bin(info.tokens)), len(labels)
            )
            for prompt_id, info in prompts.items()
        }
        self.labels = list(labels)
        self.all = np.ones(len(labels), dtype=bool)

    def slices(self, present: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
        """(slice, value, member) for each value among the groups that are `present`; `member` marks its groups."""
        names = {kind: self._members(present, kind) for kind in SLICES}
        for kind, members in names.items():
            order: Callable[[str], Any] = str
            if kind == "by_input_length":
                order = (*_LENGTHS, UNKNOWN).index
            for name in sorted(members, key=order):
                member = np.zeros(len(self.labels), dtype=bool)
                member[members[name]] = True
                yield kind, name, member

    def _members(self, present: np.ndarray, kind: str) -> dict[str, list[int]]:
        members: dict[str, list[int]] = {}
        for group in present:
            label = self.labels[group][SLICES.index(kind)]
            for name in (label,) if isinstance(label, str) else label:
                members.setdefault(name, []).append(int(group))
        return members

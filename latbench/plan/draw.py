"""Which prompt a sequence number draws, and the nonce that opens it.

Both are functions of their arguments alone, so that the same seed gives the same work on one worker or on ten, in any
order. The generator is counter-based: BLAKE2b of (seed, sequence number), two 64-bit words of it for two draws.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate

from latbench.model.request import Message, Prompt

NONCE_CHARS = 16
_WORD = 2.0**-64


def uniforms(seed: int, seq: int) -> tuple[float, float]:
    """Two independent numbers in [0, 1) for a sequence number."""
    digest = blake2b(f"{seed}:{seq}".encode(), digest_size=16, person=b"latbench-draw").digest()
    return int.from_bytes(digest[:8], "big") * _WORD, int.from_bytes(digest[8:], "big") * _WORD


class Drawer:
    """Draws a task by weight, then a prompt uniformly within it, with replacement."""

    def __init__(self, seed: int, prompts: Sequence[Prompt], weights: Mapping[str, float]) -> None:
        """`weights` maps tasks to positive weights, each with a prompt. The order of `prompts` is part of the draw."""
        self._seed = seed
        by_task: dict[str, list[int]] = {task: [] for task in sorted(weights)}
        for index, prompt in enumerate(prompts):
            if prompt.task in by_task:
                by_task[prompt.task].append(index)
        self._indices = [by_task[task] for task in sorted(weights)]
        if not self._indices or not all(self._indices):
            raise ValueError("every weighted task needs a prompt")
        self._bounds = list(accumulate(weights[task] for task in sorted(weights)))

    def draw(self, seq: int) -> int:
        """The index of the prompt that sequence number `seq` sends."""
        by_weight, within = uniforms(self._seed, seq)
        task = min(bisect_right(self._bounds, by_weight * self._bounds[-1]), len(self._indices) - 1)
        indices = self._indices[task]
        return indices[min(int(within * len(indices)), len(indices) - 1)]


class InOrder:
    """Draws prompts in their order, and begins again after the last."""

    def __init__(self, count: int) -> None:
        self._count = count

    def draw(self, seq: int) -> int:
        """The index of the prompt that sequence number `seq` sends."""
        return seq % self._count


def drawer(
    seed: int, prompts: Sequence[Prompt], weights: Mapping[str, float], *, in_order: bool = False
) -> "Drawer | InOrder":
    """What decides which prompt a sequence number sends."""
    return InOrder(len(prompts)) if in_order else Drawer(seed, prompts, weights)


def nonce(run_id: str, endpoint: str, step: int, seq: int) -> str:
    """Sixteen hexadecimal digits that no other request of any run opens with."""
    return blake2b(f"{run_id}/{endpoint}/{step}/{seq}".encode(), digest_size=NONCE_CHARS // 2).hexdigest()


def open_with(text: str, messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages with `text` as the first thing the endpoint reads, so that no cache has seen the beginning."""
    first = messages[0]
    return (Message(first.role, f"[{text}]\n{first.content}"), *messages[1:])

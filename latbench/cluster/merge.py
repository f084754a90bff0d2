"""Numbered batches put together again: each taken once, complete only without a gap. Pure."""

from collections import deque
from collections.abc import Hashable


class Inbox:
    """The batches of one worker, numbered from 1, arriving in any order, more than once, or not yet."""

    def __init__(self) -> None:
        self._next = 1
        self._ahead: set[int] = set()
        self._finals: dict[int, int] = {}

    def accept(self, number: int, final_of: int | None = None) -> bool:
        """Take note of a batch; false if it was taken before. `final_of` is the step it is the last batch of."""
        if number < self._next or number in self._ahead:
            return False
        self._ahead.add(number)
        while self._next in self._ahead:
            self._ahead.remove(self._next)
            self._next += 1
        if final_of is not None:
            self._finals[final_of] = number
        return True

    def restart(self) -> None:
        """Another run begins on the same worker: its batches and steps count anew."""
        self._next = 1
        self._ahead.clear()
        self._finals.clear()

    def complete(self, step: int) -> bool:
        """Whether everything up to the final batch of `step` has come."""
        return step in self._finals and self._finals[step] < self._next


class Outbox:
    """The batches of one worker that its master has not acknowledged."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[float, bytes]] = {}

    def keep(self, number: int, data: bytes, now_s: float) -> None:
        """Keep a batch that was sent at `now_s` until it is acknowledged."""
        self._waiting[number] = (now_s, data)

    def acknowledged(self, number: int) -> None:
        """Forget a batch. One that is not known was acknowledged before."""
        self._waiting.pop(number, None)

    def due(self, now_s: float, after_s: float) -> list[bytes]:
        """The batches to send again: those sent longer ago than `after_s`, which count as sent now."""
        late = [number for number, (sent_s, _) in self._waiting.items() if now_s - sent_s >= after_s]
        for number in late:
            self._waiting[number] = (now_s, self._waiting[number][1])
        return [self._waiting[number][1] for number in late]

    def __len__(self) -> int:
        return len(self._waiting)


class Once:
    """What has happened of late, so that what is told twice counts once. It remembers `window_ns`, and no more.

    What happened longer ago than that before the latest is not news, whether it was told before or not.
    """

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._known: set[Hashable] = set()
        self._order: deque[tuple[int, Hashable]] = deque()
        self._latest_ns = 0

    def first(self, key: Hashable, at_ns: int) -> bool:
        """Take note of what happened at that moment; false if it is no news."""
        self._latest_ns = max(self._latest_ns, at_ns)
        oldest_ns = self._latest_ns - self._window_ns
        while self._order and self._order[0][0] <= oldest_ns:
            self._known.discard(self._order.popleft()[1])
        if at_ns <= oldest_ns or key in self._known:
            return False
        self._known.add(key)
        self._order.append((at_ns, key))
        return True

    def __len__(self) -> int:
        return len(self._known)

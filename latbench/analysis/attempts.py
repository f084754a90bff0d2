"""Every attempt of every request as columns: what rate limits are counted and measured from.

The last attempt of a request is its sample, and already a row of `Columns`; only the earlier ones, which few requests
have, are kept here besides.
"""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from latbench.analysis.limits import Attempts
from latbench.model.sample import Headroom, Sample

_NAN = float("nan")
_NO_NEXT = -1
_MOST_KEYS = 127  # what a column of bytes holds; keys further back are counted with that one


@dataclass(slots=True)
class Reported:
    """What answers said of their limits, by kind: limit and what remained, a column each over all samples."""

    columns: "dict[str, tuple[array[float], array[float]]]" = field(default_factory=dict)

    def add(self, row: int, said: Headroom) -> None:
        """What sample number `row` was told; rows in between were told nothing."""
        for kind, (limit, remaining, _) in said.items():
            limits, left = self.columns.setdefault(kind, (array("d"), array("d")))
            for column, value in ((limits, limit), (left, remaining)):
                column.extend([_NAN] * (row - len(column)))
                column.append(_NAN if value is None else value)

    def of(self, rows: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """The columns of some samples."""
        return {kind: (_at(limit, rows), _at(left, rows)) for kind, (limit, left) in self.columns.items()}


def _at(column: "array[float]", rows: np.ndarray) -> np.ndarray:
    """A column is as long as the last row that has a value."""
    found = np.full(len(rows), _NAN)
    inside = rows < len(column)
    found[inside] = np.frombuffer(column, dtype=np.float64)[rows[inside]] if len(column) else _NAN
    return found


@dataclass(slots=True)
class Tries:
    """The attempts before the last one: `parent` is the row of their sample."""

    parent: "array[int]" = field(default_factory=lambda: array("q"))
    sent_ns: "array[float]" = field(default_factory=lambda: array("d"))
    outcome: "array[int]" = field(default_factory=lambda: array("b"))
    kind: "array[int]" = field(default_factory=lambda: array("i"))
    asked_ns: "array[float]" = field(default_factory=lambda: array("d"))
    waited_ns: "array[float]" = field(default_factory=lambda: array("d"))
    next_outcome: "array[int]" = field(default_factory=lambda: array("b"))
    key: "array[int]" = field(default_factory=lambda: array("b"))

    def add(self, row: int, sample: Sample, kinds: Mapping[str, int], outcomes: Mapping[str, int]) -> None:
        """The earlier attempts of sample number `row`; `kinds` and `outcomes` give the numbers of those words."""
        left = [one.sent_ns for one in sample.tries[1:]] + [sample.sent_ns]
        became = [one.outcome for one in sample.tries[1:]] + [sample.outcome]
        for one, next_ns, outcome in zip(sample.tries, left, became, strict=True):
            self.parent.append(row)
            self.sent_ns.append(one.sent_ns)
            self.outcome.append(outcomes[one.outcome])
            self.kind.append(kinds[one.kind or "unknown"])
            self.asked_ns.append(_NAN if one.wait_ns is None else one.wait_ns)
            self.waited_ns.append(_NAN if next_ns is None else next_ns - one.done_ns)
            self.next_outcome.append(outcomes[outcome])
            self.key.append(min(one.key_index, _MOST_KEYS))

    def tried(self, rows: np.ndarray) -> np.ndarray:
        """Whether each of some samples had an attempt before its last."""
        if not self.parent:
            return np.zeros(len(rows), dtype=bool)
        found: np.ndarray = np.isin(rows, np.frombuffer(self.parent, dtype=np.int64))
        return found

    def of(self, rows: np.ndarray) -> np.ndarray:
        """The places here of the attempts of some samples."""
        return np.flatnonzero(np.isin(np.frombuffer(self.parent, dtype=np.int64), rows)) if self.parent else rows[:0]


def together(
    rows: np.ndarray,
    last: Mapping[str, np.ndarray],
    tokens: Mapping[str, np.ndarray],
    tries: Tries,
    reported: Reported,
    kinds: list[str],
) -> Attempts:
    """All attempts of the samples `rows`. `last` has whole columns of their last ones, under the names of `Attempts`.

    `tokens` are whole columns of input and output tokens.
    """
    earlier = tries.of(rows)
    count = len(earlier)

    def both(name: str, kind: type) -> np.ndarray:
        column = getattr(tries, name)
        before = np.array(column, dtype=kind)[earlier] if count else np.empty(0, kind)
        return np.concatenate((last[name][rows].astype(kind), before))

    unknown = np.full(count, _NAN)
    read, written = (np.concatenate((tokens[name][rows].astype(np.float64), unknown)) for name in ("input", "output"))
    return Attempts(
        sent_ns=both("sent_ns", np.float64),
        outcome=both("outcome", np.int64),
        kind=both("kind", np.int64),
        kinds=kinds,
        asked_ns=both("asked_ns", np.float64),
        waited_ns=np.concatenate((np.full(len(rows), _NAN), np.array(tries.waited_ns)[earlier] if count else unknown)),
        next_outcome=np.concatenate(
            (np.full(len(rows), _NO_NEXT), np.array(tries.next_outcome)[earlier] if count else np.empty(0, np.int64))
        ),
        key=both("key", np.int64),
        tokens={"tokens": read + written, "input_tokens": read, "output_tokens": written},
        headroom={
            kind: (np.concatenate((limit, unknown)), np.concatenate((left, unknown)))
            for kind, (limit, left) in reported.of(rows).items()
        },
    )

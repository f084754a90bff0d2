"""The columns that everything about needle trials is computed from: one row for each trial that was planned."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from latbench.model.needle import UNANSWERED, TrialOutcome

ORDINARY = "none"
ABSENT = "absent"
BASE = "base"
CLOSED_BOOK = "closed-book"
CANARY = "canary"
"""What a trial is a control of, as recipes have it; only ordinary ones enter accuracy."""

_NAN = float("nan")


class TrialRow(NamedTuple):
    """What is known of a trial once it is over.

    `length` is the tokens that were asked for. `stratum` and `depth` are shares of the code block; the stratum is None
    where depth was drawn over the whole file. `right` says that the answer was, whatever the outcome. `ttft_counts` is
    false for what was retried or came from a cache, `unread` true where TTFT is less than reading takes. `named_depth`
    is where the thing stands that was named. `our_tokens` is the length of the prompt by our own count. `line_right`
    and `f1` are details of an answer, None where the kind has none such. `trial` names it, the same at every endpoint.
    """

    kind: str
    control: str
    length: int
    block: str
    stratum: float | None
    depth: float
    outcome: str
    right: bool
    ttft_ms: float | None = None
    ttft_counts: bool = True
    input_tokens: float | None = None
    expected_input_tokens: float | None = None
    named_depth: float | None = None
    chance: float = 0.0
    e2e_ms: float | None = None
    our_tokens: int | None = None
    line_right: bool | None = None
    f1: float | None = None
    unread: bool = False
    trial: str = ""


@dataclass(frozen=True, slots=True)
class Trials:
    """Rows as columns, in the order in which they were due; what is None in a row is NaN here."""

    kind: np.ndarray
    control: np.ndarray
    length: np.ndarray
    block: np.ndarray
    stratum: np.ndarray
    depth: np.ndarray
    outcome: np.ndarray
    right: np.ndarray
    ttft_ms: np.ndarray
    ttft_counts: np.ndarray
    input_tokens: np.ndarray
    expected_input_tokens: np.ndarray
    named_depth: np.ndarray
    chance: np.ndarray
    e2e_ms: np.ndarray
    our_tokens: np.ndarray
    line_right: np.ndarray
    f1: np.ndarray
    unread: np.ndarray
    trial: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    def of(self, rows: np.ndarray) -> "Trials":
        """Some of the rows: a truth value for each, or their numbers."""
        return Trials(*(getattr(self, column.name)[rows] for column in fields(self)))

    @property
    def correct(self) -> np.ndarray:
        found: np.ndarray = self.outcome == str(TrialOutcome.CORRECT)
        return found

    @property
    def answered(self) -> np.ndarray:
        """Whether the model has been heard: what accuracy is a share of."""
        return ~np.isin(self.outcome, sorted(UNANSWERED))

    @property
    def sent(self) -> np.ndarray:
        found: np.ndarray = self.outcome != str(TrialOutcome.WITHDRAWN)
        return found

    def controls(self, control: str) -> "Trials":
        """The trials that are a control of one thing, or of none (`ORDINARY`)."""
        return self.of(self.control == control)

    def by_length(self) -> Iterator[tuple[str, int, "Trials"]]:
        """Kind, length and trials of each, kinds by name, lengths rising."""
        for kind in sorted(set(self.kind.tolist())):
            of_kind = self.of(self.kind == kind)
            for length in sorted(set(of_kind.length.tolist())):
                yield kind, int(length), of_kind.of(of_kind.length == length)


def columns(rows: Iterable[TrialRow]) -> Trials:
    """The columns of some trials."""
    found = list(rows)

    def words(name: str) -> np.ndarray:
        return np.array([str(getattr(row, name)) for row in found], dtype=np.str_)

    def numbers(name: str) -> np.ndarray:
        values = (getattr(row, name) for row in found)
        return np.array([_NAN if value is None else value for value in values], dtype=np.float64)

    def truths(name: str) -> np.ndarray:
        return np.array([getattr(row, name) for row in found], dtype=np.bool_)

    return Trials(
        kind=words("kind"),
        control=words("control"),
        length=np.array([row.length for row in found], dtype=np.int64),
        block=words("block"),
        stratum=numbers("stratum"),
        depth=numbers("depth"),
        outcome=words("outcome"),
        right=truths("right"),
        ttft_ms=numbers("ttft_ms"),
        ttft_counts=truths("ttft_counts"),
        input_tokens=numbers("input_tokens"),
        expected_input_tokens=numbers("expected_input_tokens"),
        named_depth=numbers("named_depth"),
        chance=numbers("chance"),
        e2e_ms=numbers("e2e_ms"),
        our_tokens=numbers("our_tokens"),
        line_right=numbers("line_right"),
        f1=numbers("f1"),
        unread=truths("unread"),
        trial=words("trial"),
    )

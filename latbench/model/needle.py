"""What can become of a needle trial: the words that grading, the store, the analysis and the reports share.

Two shares are always shown together. *Success* is correct trials of all that were sent. *Accuracy* is correct trials of
those with a complete answer: what the model does wrong stays in it, however it does it (`ANSWERED`); what the network,
a limit or a cut did leaves it (`UNANSWERED`), and is counted beside it.
"""

from enum import StrEnum

import msgspec


class TrialOutcome(StrEnum):
    """What became of a trial."""

    CORRECT = "correct"
    NEAR_MISS = "near_miss"
    """A wrong name that stands in the right one of several files, whether it was put there as a rival or not."""
    WRONG_DECOY = "wrong_decoy"
    WRONG_OTHER = "wrong_other"
    """Something else that is in the prompt, or an answer of another type than was asked for."""
    HALLUCINATED = "hallucinated"
    """Names what is nowhere in the code."""
    FALSE_ABSENT = "false_absent"
    FALSE_PRESENT = "false_present"
    """Names something, where there was nothing to be found."""
    MULTIPLE_ANSWERS = "multiple_answers"
    OVERLONG = "overlong"
    FORMAT_ERROR = "format_error"
    REFUSED = "refused"
    EMPTY = "empty"
    TRUNCATED_OUTPUT = "truncated_output"
    """The answer ended at the output limit before it was given."""
    TRUNCATED_PROMPT = "truncated_prompt"
    """The endpoint counted fewer input tokens than were sent: it cannot have read all of them."""
    CONTEXT_OVERFLOW = "context_overflow"
    """The endpoint refused the prompt for its length."""
    TIMEOUT = "timeout"
    TRANSPORT_ERROR = "transport_error"
    """No complete answer came, for any other reason at the endpoint or on the way to it."""
    RATE_LIMITED = "rate_limited"
    WITHDRAWN = "withdrawn"
    """Never sent, or ended by ourselves: says nothing of the endpoint, and counts as not sent."""


UNANSWERED = frozenset(
    {
        TrialOutcome.TRUNCATED_OUTPUT,
        TrialOutcome.TRUNCATED_PROMPT,
        TrialOutcome.CONTEXT_OVERFLOW,
        TrialOutcome.TIMEOUT,
        TrialOutcome.TRANSPORT_ERROR,
        TrialOutcome.RATE_LIMITED,
        TrialOutcome.WITHDRAWN,
    }
)
"""Not in accuracy: the model has not been heard, or has not seen all of the prompt."""

ANSWERED = frozenset(TrialOutcome) - UNANSWERED
"""In accuracy."""

WRONG = frozenset(
    {
        TrialOutcome.NEAR_MISS,
        TrialOutcome.WRONG_DECOY,
        TrialOutcome.WRONG_OTHER,
        TrialOutcome.HALLUCINATED,
        TrialOutcome.FALSE_ABSENT,
        TrialOutcome.FALSE_PRESENT,
    }
)
"""One answer in the form that was asked for, and not the right one."""


class Named(StrEnum):
    """Which thing an answer named."""

    TARGET = "target"
    DECOY = "decoy"
    OTHER = "other"
    """Another identifier or number of the code, or of the question."""
    UNKNOWN = "unknown"
    """What is nowhere in the prompt."""
    ABSENT = "absent"
    NOTHING = "nothing"
    """There was no one answer."""


class Flag(StrEnum):
    """What is remarkable about a trial whatever its outcome."""

    LONG = "long"
    """The answer is right at the end of far more text than was asked for."""
    CUT_AFTER_ANSWER = "cut_after_answer"
    """The output limit was reached after a complete answer, which counts."""
    BROKEN_AFTER_ANSWER = "broken_after_answer"
    """The stream ended without its closing sign after a complete answer, which counts."""
    RETRIED = "retried"
    CACHED = "cached"
    """More than 2 % of the prompt came from a cache."""


NO_TTFT = frozenset({Flag.RETRIED, Flag.CACHED})
"""Flags with which a trial leaves the statistics of TTFT, and stays in accuracy."""


class Grade(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a trial, and which thing its answer named.

    `right` says whether the answer was right, whatever became of the trial: of a prompt that was cut too. `answer` is
    what was answered, capped. `named_depth` is where that stands, if it stands in one place. `line_right` is None where
    no line was asked for. `precision` and `recall` are those of a set of names.
    """

    outcome: TrialOutcome
    right: bool = False
    named: Named = Named.NOTHING
    answer: str = ""
    named_depth: float | None = None
    line_right: bool | None = None
    precision: float | None = None
    recall: float | None = None
    flags: tuple[Flag, ...] = ()

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall; None where there are none."""
        if self.precision is None or self.recall is None:
            return None
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

"""What became of a trial: its sample, and its answer held against the key. No judge, nothing is run, nothing raises.

Two tables in a row: `OF_SAMPLE` says what a request's outcome makes of the trial, and only where an answer may have
come does its text decide, by the markers in it (`reading.py`) and by what they name (`naming.py`). Whatever the
answer says, an endpoint that counted fewer input tokens than were sent has not read the prompt.
"""

import re
from collections.abc import Sequence

import msgspec

from latbench.model.needle import Flag, Grade, Named, TrialOutcome
from latbench.model.sample import Outcome, Sample
from latbench.needle.lines import same_line
from latbench.needle.naming import Found, denotes, whose
from latbench.needle.reading import Absent, Answered, Fault, Value, has_marker, marker_lines, read, read_whole, visible
from latbench.needle.trial import AnswerKey, Form, Planted, Trial

LONG_CHARS = 2_000
"""An answer within more text than this, or than the code has, is flagged."""
SHORT_PROMPT = 0.97
"""An endpoint that counts less than this share of the input tokens that are expected has cut the prompt."""
CACHED_SHARE = 0.02
ANSWER_CHARS = 200
"""How much of a given answer a grade keeps."""
SET_FACTOR = 4
"""A set may have so many times the names that were asked for."""

OF_SAMPLE: dict[str, TrialOutcome] = {
    Outcome.OK: TrialOutcome.CORRECT,  # or what else its text says
    Outcome.RATE_LIMITED: TrialOutcome.RATE_LIMITED,
    Outcome.QUOTA_EXHAUSTED: TrialOutcome.RATE_LIMITED,
    Outcome.OVERLOADED: TrialOutcome.TRANSPORT_ERROR,
    Outcome.AUTH_ERROR: TrialOutcome.TRANSPORT_ERROR,
    Outcome.INVALID_REQUEST: TrialOutcome.TRANSPORT_ERROR,  # or the context is too long, by its words
    Outcome.HTTP_ERROR: TrialOutcome.TRANSPORT_ERROR,
    Outcome.STREAM_ERROR: TrialOutcome.TRANSPORT_ERROR,
    Outcome.TRUNCATED: TrialOutcome.TRANSPORT_ERROR,
    Outcome.MALFORMED: TrialOutcome.TRANSPORT_ERROR,
    Outcome.TIMEOUT: TrialOutcome.TIMEOUT,
    Outcome.STALLED: TrialOutcome.TIMEOUT,
    Outcome.CONNECT_ERROR: TrialOutcome.TRANSPORT_ERROR,
    Outcome.CANCELLED: TrialOutcome.WITHDRAWN,
    Outcome.DROPPED: TrialOutcome.WITHDRAWN,
    Outcome.LOST: TrialOutcome.WITHDRAWN,
}
"""What the outcome of a request makes of its trial."""

_MAY_HAVE_ANSWERED = frozenset({Outcome.TRUNCATED, Outcome.STREAM_ERROR, Outcome.TIMEOUT, Outcome.STALLED})
_OVERFLOW_WORDS = (
    "context_length",
    "context length",
    "context window",
    "maximum context",
    "prompt is too long",
    "prompt too long",
    "input is too long",
    "input token count",
    "too many input tokens",
    "maximum number of tokens",
    "maximum prompt length",
    "reduce the length",
)
_REFUSAL = re.compile(
    r"\b(?:can(?:no|')?t|can not|won't|will not|(?:am|'m) (?:not able|unable) to|unable to|must decline to)\s+"
    r"(?:\w+\s+)?(?:help|assist|comply|fulfil|do that|do this|engage|support|provide|answer|process|continue)"
)
_REFUSAL_CHARS = 300  # a refusal comes first


def grade(sample: Sample, trial: Trial, expected_input_tokens: float | None = None) -> Grade:
    """What became of a trial.

    `expected_input_tokens` is what the endpoint's own usage should say of this prompt; None where that is not known
    well enough to tell a cut prompt from another tokenizer.
    """
    broken = sample.outcome != Outcome.OK
    if broken and sample.outcome not in _MAY_HAVE_ANSWERED:
        return Grade(outcome=_of_failure(sample), flags=_flags(sample))
    text = visible(sample.text or "")
    cut = sample.finish_reason == "length"
    found = _grade_text(text, trial, sample.finish_reason, ended_early=cut or broken)
    flags = _flags(sample) + ((Flag.LONG,) if _is_long(text, trial.code) else ())
    if found is None:
        found = Grade(outcome=_of_failure(sample) if broken else TrialOutcome.TRUNCATED_OUTPUT)
    elif cut or broken:
        flags += (Flag.BROKEN_AFTER_ANSWER if broken else Flag.CUT_AFTER_ANSWER,)
    if _prompt_was_cut(sample, expected_input_tokens):
        found = msgspec.structs.replace(found, outcome=TrialOutcome.TRUNCATED_PROMPT)
    return msgspec.structs.replace(found, flags=flags)


def _is_long(text: str, code: str) -> bool:
    return len(text) > LONG_CHARS or (bool(code) and len(text) > len(code))


def _of_failure(sample: Sample) -> TrialOutcome:
    """What a request that brought no answer makes of its trial."""
    if sample.outcome in (Outcome.INVALID_REQUEST, Outcome.STREAM_ERROR):
        words = f"{sample.error_code or ''} {sample.error_message or ''}".lower()
        if sample.status == 429:
            return TrialOutcome.RATE_LIMITED  # larger than a limit per minute, not than the context
        if any(phrase in words for phrase in _OVERFLOW_WORDS):
            return TrialOutcome.CONTEXT_OVERFLOW
    return OF_SAMPLE.get(sample.outcome, TrialOutcome.TRANSPORT_ERROR)


def _flags(sample: Sample) -> tuple[Flag, ...]:
    cached, sent = sample.cached_tokens or 0, sample.input_tokens or 0
    return (
        *((Flag.RETRIED,) if sample.tries or sample.reconnects else ()),
        *((Flag.CACHED,) if cached > CACHED_SHARE * sent else ()),
    )


def _prompt_was_cut(sample: Sample, expected: float | None) -> bool:
    counted = sample.input_tokens if sample.token_source == "usage" else None
    return counted is not None and expected is not None and counted < SHORT_PROMPT * expected


def _grade_text(text: str, trial: Trial, finish: str | None, *, ended_early: bool) -> Grade | None:
    """What a visible text makes of the trial; None where it ended before its answer."""
    key = trial.key
    said = read(text, key.form, _echoes(text, trial))
    answers = [one for one in said if isinstance(one, Answered)]
    if not said:
        whole = read_whole(text, key.form)
        answers = [] if whole is None else [whole]
    answers = [one for one in answers if one.closed or not ended_early]
    if answers:
        return _grade_answers(answers, key, trial.code)
    if Fault.OVERLONG in said:
        return Grade(outcome=TrialOutcome.OVERLONG)
    if ended_early:
        return None
    if finish == "filter" or _refuses(text):
        return Grade(outcome=TrialOutcome.REFUSED)
    return Grade(outcome=TrialOutcome.FORMAT_ERROR if text else TrialOutcome.EMPTY)


def _echoes(text: str, trial: Trial) -> frozenset[str]:
    """The marker lines of the prompt; looked for only where the reply has a marker to hold against them."""
    if not has_marker(text):
        return frozenset()
    contents = (trial.code, *(message.content for message in trial.messages))
    return frozenset().union(*map(marker_lines, contents))


def _refuses(text: str) -> bool:
    return _REFUSAL.search(text[:_REFUSAL_CHARS].lower().replace("’", "'")) is not None


def _grade_answers(answers: Sequence[Answered], key: AnswerKey, code: str) -> Grade:
    values = {_canonical(one.value, key) for one in answers}
    if len(values) > 1:
        return Grade(outcome=TrialOutcome.MULTIPLE_ANSWERS)
    (value,) = values
    shown = _shown(value)
    if value is Absent.ABSENT:
        outcome = TrialOutcome.FALSE_ABSENT if key.present else TrialOutcome.CORRECT
        return Grade(outcome=outcome, right=not key.present, named=Named.ABSENT, answer=shown)
    if isinstance(value, tuple) and key.form is not Form.NAMES:
        return _grade_names(value, key, code)
    if isinstance(value, tuple) and len(value) > SET_FACTOR * max((1, *map(_size, key.targets))):
        return Grade(outcome=TrialOutcome.OVERLONG, answer=shown)
    found = whose(value, key, code)
    right = found.named is Named.TARGET
    return Grade(
        outcome=_of_named(found, key),
        right=right,
        named=found.named,
        answer=shown,
        named_depth=found.depth,
        line_right=_line_right(answers, key),
    )


def _size(target: Planted) -> int:
    return len(target.value) if isinstance(target.value, tuple) else 1


def _canonical(value: Value, key: AnswerKey) -> Value:
    """One value for what is the same answer: `T`, `T()`, `module.T`, and a list with nothing but one of them."""
    if key.form is Form.NAME_SET and isinstance(value, str):
        value = (value,)
    if isinstance(value, tuple) and key.form is not Form.NAMES:
        names = tuple(sorted({_plain_name(one, key) for one in value}))
        return names[0] if len(names) == 1 and key.form is not Form.NAME_SET else names
    return _plain_name(value, key) if isinstance(value, str) else value


def _plain_name(word: str, key: AnswerKey) -> str:
    if key.form in (Form.IDENTIFIER, Form.NAME_SET):
        for target in key.targets:
            if denotes(word, target):
                return target.name
    return word.removesuffix("()")


def _of_named(found: Found, key: AnswerKey) -> TrialOutcome:
    if not key.present:
        return TrialOutcome.FALSE_PRESENT
    if found.named is Named.TARGET:
        return TrialOutcome.CORRECT
    if found.near:
        return TrialOutcome.NEAR_MISS
    if found.named is Named.DECOY:
        return TrialOutcome.WRONG_DECOY
    return TrialOutcome.WRONG_OTHER if found.named is Named.OTHER else TrialOutcome.HALLUCINATED


def _grade_names(names: tuple[str, ...], key: AnswerKey, code: str) -> Grade:
    """Several names: a set where one was asked for, else more answers than one."""
    if key.form is not Form.NAME_SET:
        return Grade(outcome=TrialOutcome.MULTIPLE_ANSWERS if len(names) > 1 else TrialOutcome.FORMAT_ERROR)
    if len(names) > SET_FACTOR * max(1, len(key.targets)):
        return Grade(outcome=TrialOutcome.OVERLONG, answer=_shown(names))
    # As a set, one name is held against the key like an identifier.
    singly = msgspec.structs.replace(key, form=Form.IDENTIFIER)
    found = [whose(name, singly, code).named for name in names]
    hits = found.count(Named.TARGET)
    right = key.present and hits == len(names) == len(key.targets)
    worst = next((one for one in (Named.DECOY, Named.OTHER, Named.UNKNOWN) if one in found), Named.TARGET)
    missing = Found(Named.OTHER if worst is Named.TARGET and not right else worst)
    return Grade(
        outcome=TrialOutcome.CORRECT if right else _of_named(missing, key),
        right=right,
        named=worst if names else Named.NOTHING,
        answer=_shown(names),
        precision=hits / len(names) if names else 0.0,
        recall=hits / len(key.targets) if key.targets else 0.0,
    )


def _line_right(answers: Sequence[Answered], key: AnswerKey) -> bool | None:
    """Whether the line that was given is the answer-bearing one, in all answers that give one."""
    if not key.asks_line or not key.present:
        return None
    lines = [one.line for one in answers if one.line is not None]
    target = key.targets[0]
    return bool(lines) and all(same_line(line, target) for line in lines)


def _shown(value: Value) -> str:
    """An answer as a grade keeps it: capped, and of characters that can be written."""
    if isinstance(value, Absent):
        return value.value
    written = ", ".join(value) if isinstance(value, tuple) else str(value)
    return written[:ANSWER_CHARS].encode("utf-8", "replace").decode()

"""What a model might answer to a trial, in the form that is asked for: for the simulated endpoint, which has no model.

A right reply, those that name a rival, and the one that says that there is nothing. Which is given is the simulated
endpoint's business: it reads the prompt and looks whether the lines are there.
"""

import msgspec

from latbench.needle.trial import AnswerKey, Form, Planted, Trial

_ABSENT = "ANSWER: ABSENT"
_encoder = msgspec.json.Encoder()


class Replies(msgspec.Struct, frozen=True, kw_only=True):
    """One trial. `line` is what must have been read for the right reply, None of a control.

    It is the answer-bearing line, with as many beside it as tell it from others like it, or a list of such lines.
    """

    nonce: str
    line: str | list[str] | None
    right: str
    wrong: list[str]
    absent: str
    depth: float
    length: int


def replies(trial: Trial) -> Replies:
    """What may be answered to a trial."""
    key = trial.key
    lines = [_unique(trial.code, one) for one in (*key.targets, *key.parts)] if key.present and trial.code else []
    return Replies(
        nonce=trial.recipe.nonce,
        line=lines[0] if len(lines) == 1 else lines or None,
        right=_reply(key, key.targets) if key.present else _ABSENT,
        wrong=[_reply(key, (decoy,)) for decoy in key.decoys if _has_answer(key, decoy)],
        absent=_ABSENT,
        depth=trial.depth,
        length=trial.recipe.tokens,
    )


def encoded(trial: Trial) -> bytes:
    """The replies to a trial as a line of JSON."""
    return _encoder.encode(replies(trial)) + b"\n"


def _has_answer(key: AnswerKey, rival: Planted) -> bool:
    return rival.value is not None or key.form not in (Form.INTEGER, Form.NAMES)


def _unique(code: str, planted: Planted) -> str:
    """The answer-bearing line. Where the same stands elsewhere too, those after and before it come with it."""
    lines = code.splitlines()
    first, last = planted.line_number - 1, planted.line_number
    while f"\n{code}\n".count("\n".join(("", *lines[first:last], ""))) > 1:
        if ((last - first) % 2 and last < len(lines)) or first == 0:
            last += 1
        else:
            first -= 1
    return "\n".join(lines[first:last])


def _reply(key: AnswerKey, named: tuple[Planted, ...]) -> str:
    first = named[0]
    answer: dict[str, object]
    match key.form:
        case Form.INTEGER:
            answer = {"value": first.value}
        case Form.NAMES:
            answer = {"names": first.value}
        case Form.NAME_SET:
            answer = {"names": [one.name for one in named]}
        case Form.IDENTIFIER:
            answer = {"name": first.name}
            if key.asks_line:
                answer["line"] = first.line.strip()
    return f"ANSWER: {_encoder.encode(answer).decode()}"

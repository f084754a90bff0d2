"""A small trial of each form, made by hand, and its answers graded: what the tests of grading share."""

from dataclasses import dataclass
from typing import Any

import msgspec

from latbench.model.needle import Grade
from latbench.model.request import Message
from latbench.model.sample import Outcome, Sample
from latbench.needle.grade import grade
from latbench.needle.trial import AnswerKey, Control, FileStart, Form, Kind, Planted, Recipe, Trial

TARGET = "load_row"
DECOY = "load_page"
CODE = """\
# path: store/tables.py
class Table:
    def load_row(self, index):
        if index <= 0:  # rows count from 1
            return None
        return self.rows[index]

    def drop_row(self, index):
        return self.rows.pop(index)

# path: store/pages.py
LIMIT = 71432
LIMIT_SOFT = 99999
BIG = 6884477777

def load_page(index):
    return PAGES[index]

class Pager:
    def flush(self):
        return None

# path: net/wire.py
def send_frame(payload, timeout, retries):
    return payload

def start(port):
    return port
"""
QUESTION = 'Which function is wrong? If no such item exists, answer ABSENT.\nReply with one line:\nANSWER: {"name": …}'


def planted(name: str, path: str, line: str, depth: float, **more: Any) -> Planted:
    number = CODE.splitlines().index(line) + 1 if line in CODE.splitlines() else 1
    module = path.rpartition("/")[2].removesuffix(".py")
    qualifiers = more.pop("qualifiers", (module, path.removesuffix(".py").replace("/", ".")))
    return Planted(name, path, qualifiers, line, number, depth, **more)


BUG_LINE = "        if index <= 0:  # rows count from 1"
BUG = planted(TARGET, "store/tables.py", BUG_LINE, 0.1, qualifiers=("Table", "tables.Table", "store.tables.Table"))
RIVAL = planted(DECOY, "store/pages.py", "def load_page(index):", 0.6)
FILES = (FileStart("store/tables.py", 1), FileStart("store/pages.py", 11), FileStart("net/wire.py", 23))


def key(form: Form = Form.IDENTIFIER, **changes: Any) -> AnswerKey:
    made = AnswerKey(form, (BUG,), (RIVAL,), ("start",), FILES, 0.5, asks_line=form is Form.IDENTIFIER)
    return msgspec.structs.replace(made, **changes)


def constant(value: int, line: str | None = None) -> AnswerKey:
    """A key whose answer is an integer; its rivals are two others of the same file."""
    line = f"LIMIT = {value}" if line is None else line
    target = planted("LIMIT", "store/pages.py", line, 0.5, value=value)
    rivals = (planted("LIMIT_SOFT", "store/pages.py", "LIMIT_SOFT = 99999", 0.52, value=99999),)
    return key(Form.INTEGER, targets=(target,), decoys=rivals, asks_line=False)


def signature() -> AnswerKey:
    line = "def send_frame(payload, timeout, retries):"
    value = ("payload", "timeout", "retries")
    target = planted("send_frame", "net/wire.py", line, 0.8, value=value)
    return key(Form.NAMES, targets=(target,), decoys=(), asked=("send_frame",), asks_line=False)


def several(*names: str) -> AnswerKey:
    targets = tuple(planted(name, "store/pages.py", f"def {name}():", 0.5) for name in names)
    return key(Form.NAME_SET, targets=targets, asks_line=False)


CONTROL = key(targets=(), asks_line=False)


@dataclass(frozen=True)
class Case:
    """What is asked, and of which code."""

    key: AnswerKey
    code: str = CODE

    @property
    def trial(self) -> Trial:
        control = Control.NONE if self.key.present else Control.ABSENT
        recipe = Recipe(
            version=1, seed=1, kind=Kind.BUG, control=control, source="generated", block="b", needle=0, trial="t",
            stratum=0.1, depth=0.1, tokens=1_000, target_tokens=1_000, nonce="# build 00",
        )  # fmt: skip
        messages = (Message("user", f"{self.code}\n{QUESTION}"),)
        return Trial(
            recipe=recipe,
            messages=messages,
            code=self.code,
            key=self.key,
            tokens=300,
            code_tokens=250,
            depth=0.1,
            units=9,
        )


def sample(text: str | None, outcome: str = Outcome.OK, finish: str | None = "stop", **changes: Any) -> Sample:
    return Sample(
        "e", 0, 0, "p", "measure", outcome, finish_reason=finish, text=text, text_chars=len(text or ""), **changes
    )


def graded(text: str | None, to: AnswerKey | None = None, **changes: Any) -> Grade:
    """The grade of a reply: to the question for the wrong function, where no other is given."""
    expected = changes.pop("expected", None)
    code = changes.pop("code", CODE)
    return grade(sample(text, **changes), Case(key() if to is None else to, code).trial, expected)


def named(name: str, **more: str) -> str:
    """A reply that gives one name in the form that was asked for."""
    return "ANSWER: " + msgspec.json.encode({"name": name, **more}).decode()

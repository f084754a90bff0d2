"""The ladder: one line a kind. To add one, write how it is planted and put it here.

Rungs 0 to 2 and 8 are literal lookups, a ceiling control. Position matters from rung 3 on. Accuracies of different
rungs are never averaged.
"""

import msgspec

from latbench.needle.behaviour import bug, description
from latbench.needle.literal import body_fact, constant, multi, signature
from latbench.needle.planting import Plant
from latbench.needle.reasoning import chain, contract, execution
from latbench.needle.trial import Form, Kind


class KindInfo(msgspec.Struct, frozen=True):
    """A rung of the ladder.

    `may_be_absent` says whether there are controls without the target. `answer` is the JSON that is asked for, with no
    identifier in it that could be one.
    """

    rung: int
    form: Form
    plant: Plant
    answer: str
    may_be_absent: bool = False
    asks_line: bool = False


_NAME = '{"name": "<the function>"}'
_VALUE = '{"value": <the integer>}'
_NAMES = '{"names": ["<name>", …]}'

KINDS: dict[Kind, KindInfo] = {
    Kind.CONSTANT: KindInfo(0, Form.INTEGER, constant, _VALUE, may_be_absent=True),
    Kind.SIGNATURE: KindInfo(1, Form.NAMES, signature, _NAMES, may_be_absent=True),
    Kind.BODY_FACT: KindInfo(2, Form.IDENTIFIER, body_fact, _NAME, may_be_absent=True),
    Kind.DESCRIPTION: KindInfo(3, Form.IDENTIFIER, description, _NAME, may_be_absent=True),
    Kind.BUG: KindInfo(
        4,
        Form.IDENTIFIER,
        bug,
        '{"name": "<the function>", "line": "<the wrong line, verbatim>"}',
        may_be_absent=True,
        asks_line=True,
    ),
    Kind.EXECUTION: KindInfo(5, Form.INTEGER, execution, _VALUE),
    Kind.CHAIN: KindInfo(6, Form.INTEGER, chain, _VALUE),
    Kind.CONTRACT: KindInfo(7, Form.IDENTIFIER, contract, _NAME),
    Kind.MULTI: KindInfo(8, Form.NAME_SET, multi, _NAMES),
}

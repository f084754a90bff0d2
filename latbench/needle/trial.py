"""The words of this room: kinds, recipes, blocks, trials, and the key that an answer is graded against.

A recipe is small and says everything: the same recipe and the same haystack source give the same prompt, byte for byte.
A trial is a recipe carried out: the prompt, and what grading has to know of it. Prompts are not stored, recipes are.

Depth is a share of the code block, from 0 to 1: the tokens before the first token of the answer-bearing line, divided
by the tokens of the block. For a bug that line is the mutated one. Lengths are tokens of all messages together. Both
are counted with o200k_base on the final prompt.
"""

from enum import StrEnum

import msgspec

from latbench.model.request import Message


class Kind(StrEnum):
    """What is asked for: the rungs of the ladder, in order. `latbench/needle/kinds.py:KINDS` tells them apart."""

    CONSTANT = "constant"
    SIGNATURE = "signature"
    BODY_FACT = "body-fact"
    DESCRIPTION = "description"
    BUG = "bug"
    EXECUTION = "execution"
    CHAIN = "chain"
    CONTRACT = "contract"
    MULTI = "multi"


class Control(StrEnum):
    """What a trial is a control of. `NONE` is an ordinary trial, the only one that enters accuracy."""

    NONE = "none"
    ABSENT = "absent"
    """The target is not there, its rivals are; the question is the same, and `ABSENT` the right answer."""
    BASE = "base"
    """Needle and decoys alone, no filler: what a failure here shows is ability, not retrieval."""
    CLOSED_BOOK = "closed-book"
    """The question without the code: a right answer was known or guessed."""
    CANARY = "canary"
    """A constant at 1 % or 99 %: shows that a server cuts the prompt silently."""


class Form(StrEnum):
    """What an answer is, and so which rule of equality holds."""

    IDENTIFIER = "identifier"
    """`{"name": …}`, and `line` where the kind asks for the line as well."""
    INTEGER = "integer"
    """`{"value": …}`"""
    NAMES = "names"
    """`{"names": […]}`, order counts."""
    NAME_SET = "name-set"
    """`{"names": […]}`, order does not count."""


class Planted(msgspec.Struct, frozen=True):
    """Something put into the haystack on purpose: a target, or a rival of it.

    `name` is what an answer may call it, `qualifiers` are what may truly stand before it and a dot: the module as in
    `module.name` and `package.module.name`, the class. `value` is what an answer has to say where that is not the name:
    the integer of a constant, the result of a call, the parameters of a function.
    `line` is the answer-bearing line, verbatim, and `line_number` counts from 1 within the code block.
    """

    name: str
    path: str
    qualifiers: tuple[str, ...]
    line: str
    line_number: int
    depth: float
    value: int | tuple[str, ...] | None = None


class FileStart(msgspec.Struct, frozen=True, array_like=True):
    """Where a file of the code block begins: its path, and the number of its header's line, from 1."""

    path: str
    line_number: int


class AnswerKey(msgspec.Struct, frozen=True):
    """All that grading has to know.

    `targets` has one entry, several for `MULTI`, and none where the right answer is `ABSENT`. `decoys` are what looks
    like it and is not. `asked` are the identifiers that the question itself names: repeating them is no answer.
    `files`, in order, say which file a line belongs to. `chance` is the share that a reader gets right who knows the
    rivals and nothing else: 1 / rivals, and 0 where the answer is not one of a few. `parts` are neither target nor
    decoy, and necessary: the hops of a chain, the function whose contract it is.
    """

    form: Form
    targets: tuple[Planted, ...]
    decoys: tuple[Planted, ...]
    asked: tuple[str, ...]
    files: tuple[FileStart, ...]
    chance: float
    asks_line: bool = False
    parts: tuple[Planted, ...] = ()

    @property
    def present(self) -> bool:
        """Whether there is anything to be found."""
        return bool(self.targets)


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a prompt is made from.

    `block` names the haystack and the needle: trials of one block differ in depth and in the order of the filler, and
    in nothing else. `needle` numbers what is planted: the same number has the same needle, decoys and question at every
    length. `stratum` is the depth stratum's centre, `depth` the target with its jitter, both from 0 to 1; the
    stratum is null where depth is drawn over the whole file. `tokens` is the length that was asked for in the
    endpoint's tokens, `target_tokens` the same in o200k_base, which differ where the endpoint's usage was used to
    calibrate. `source` is `generated`, `stdlib` or `folder`. `haystack_sha256` and `prompt_sha256` are empty until the
    trial has been built once; from then on a rebuild is held against them.
    """

    version: int
    seed: int
    kind: Kind
    control: Control
    source: str
    block: str
    needle: int
    trial: str
    stratum: float | None
    depth: float
    tokens: int
    target_tokens: int
    nonce: str
    question: str = "after"  # after | before | both
    strip_comments: bool = False
    haystack_sha256: str = ""
    prompt_sha256: str = ""


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a trial that was made: its recipe, and what is known of it besides.

    `number` is its place in the order in which a run sends, `round` that of its round. `depth` is the actual one,
    `tokens` counts all messages, both as in `Trial`; `chance` is its key's.
    """

    number: int
    round: int
    recipe: Recipe
    depth: float
    tokens: int
    chance: float
    mutation: str = ""


class Round(msgspec.Struct, frozen=True):
    """Whole blocks and their share of controls, as they are sent. A run stops between rounds, never in one."""

    number: int
    recipes: tuple[Recipe, ...]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe carried out.

    `recipe` has its hashes. `code` is the code block as it stands in the messages. `tokens` counts all messages,
    `code_tokens` the block alone, both with o200k_base. `depth` is the actual one: of the target, or, where there is
    none, of what stands in its place. `mutation` says how a bug was made, or is empty. `units` counts pieces of filler.
    """

    recipe: Recipe
    messages: tuple[Message, ...]
    code: str
    key: AnswerKey
    tokens: int
    code_tokens: int
    depth: float
    units: int
    mutation: str = ""

"""The words around the code: the same in every trial of a run, control or not.

The nonce opens the first message, so that no cache has seen the beginning. Nothing here names what could be an answer,
and there are no examples: they would be imitated.
"""

from hashlib import sha256

import msgspec

from latbench.model.request import Message
from latbench.needle.kinds import KINDS
from latbench.needle.trial import Control, Recipe

PLACES = ("after", "before", "both")
"""Where the question may stand. It is a factor of the result, and one thing for a run."""

_SYSTEM = "You answer questions about Python code."
_OPENING = "Below is code from several files; a line `# path: …` opens each. Read it, then answer the question.\n"
_ABSENT = "If no such item exists, answer ABSENT."


class Frame(msgspec.Struct, frozen=True):
    """What stands around the code. Each part ends, or begins, at a line of its own, so that tokens add up."""

    system: str
    before: str
    after: str

    def messages(self, code: str) -> tuple[Message, ...]:
        """The prompt with this code in it."""
        return Message("system", self.system), Message("user", self.before + code + self.after)


def frame(recipe: Recipe, question: str) -> Frame:
    """The words around the code. In a closed-book control there is no place for code."""
    system = f"# build {recipe.nonce}\n{_SYSTEM}\n"
    form = f"Answer with one line of this form, or ANSWER: ABSENT\nANSWER: {KINDS[recipe.kind].answer}\n"
    asked = f"{question} {_ABSENT}\n\n"
    if recipe.control == Control.CLOSED_BOOK:
        return Frame(system, asked, form)
    fence = f"{_OPENING}\n```python\n"
    if recipe.question == "before":
        return Frame(system, f"{asked}{form}\n{fence}", "```\n")
    return Frame(system, (asked if recipe.question == "both" else "") + fence, f"```\n\n{asked}{form}")


def prompt_sha256(prompt: tuple[Message, ...]) -> str:
    """A hash of everything that is sent."""
    return sha256("\0".join(f"{one.role}\0{one.content}" for one in prompt).encode()).hexdigest()

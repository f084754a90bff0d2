"""Counts tokens of pieces of code, such that the counts of pieces add up to the count of the whole.

They do because a piece begins with something other than white space and ends with a newline: o200k_base has no token
that goes on from a newline into what is not white space. So the length of a prompt is known before it is put together,
and the whole is counted once, when it has been.
"""

from dataclasses import dataclass

from latbench.scenario.tokens import UNIT, encoding


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole lines of code, and how many tokens they are. A piece that `opens` is the head of a file."""

    text: str
    tokens: int
    opens: bool = False


def piece(text: str, *, opens: bool = False) -> Piece:
    """A piece, counted."""
    return Piece(text, tokens(text), opens)


def tokens(text: str) -> int:
    """Tokens of code by o200k_base.

    Unlike `latbench/scenario/tokens.py:count` it does not cut the text up first: code has line breaks, so that no run
    of one sort of character is long enough to take long.
    """
    return len(encoding(UNIT).encode_ordinary(text))

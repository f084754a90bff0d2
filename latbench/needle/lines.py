"""Whether a given line is the answer-bearing one. Indentation, spacing and a trailing comment make no difference."""

from latbench.needle.trial import Planted

_SEPARATORS = " \t:|"


def same_line(given: str, planted: Planted, *, numbers: bool) -> bool:
    """Whether `given` is the line of what was planted: its text, or, where `numbers` were printed, its number."""
    if numbers:
        number, rest = _numbered(given)
        if number is not None and not rest:
            return number == planted.line_number
        if number == planted.line_number:
            given = rest
    return _bare(given) == _bare(planted.line)


def _numbered(given: str) -> tuple[int | None, str]:
    """The number that a line begins with, and what is after it."""
    text = given.strip()
    digits = text[: len(text) - len(text.lstrip("0123456789"))]
    rest = text[len(digits) :]
    if not digits or len(digits) > 9 or rest[:1] not in ("", *_SEPARATORS):
        return None, text
    return int(digits), rest.lstrip(_SEPARATORS)


def _bare(line: str) -> str:
    return " ".join(_uncommented(line).split())


def _uncommented(line: str) -> str:
    """A line without its trailing comment: what follows a `#` that is in no string."""
    quote = ""
    skip = False
    for at, char in enumerate(line):
        if skip:
            skip = False
        elif quote:
            skip = char == "\\"
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char == "#":
            return line[:at]
    return line

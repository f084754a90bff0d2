"""Whether a given line is the answer-bearing one. Indentation, spacing and a trailing comment make no difference."""

from latbench.needle.trial import Planted


def same_line(given: str, planted: Planted) -> bool:
    """Whether `given` is the line of what was planted."""
    return _bare(given) == _bare(planted.line)


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

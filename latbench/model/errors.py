"""Errors that are the user's to mend, and the one that decoders raise.

An endpoint's failure is data (an outcome of a sample), never an exception that leaves the engine.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the commands end with; of several that apply, the first in the order 1, 2, 130, 96, 97, 99, 98, 0."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130
    GUARD = 96
    INVALID = 97
    INCONCLUSIVE = 98
    NOT_HELD = 99


class UserError(Exception):
    """Something the user can put right: exit code 2.

    The message is one line that says what is wrong, where (file, line, key) and what to do.
    """

    exit_code = ExitCode.USAGE


class DecodeError(ValueError):
    """Bytes that are not the protocol. The exchange becomes `malformed`."""

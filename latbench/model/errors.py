"""Errors that are the user's to mend, and the one that decoders raise.

An endpoint's failure is data (an outcome of a sample), never an exception that leaves the engine.
"""


class UserError(Exception):
    """Something the user can put right: exit code 2.

    The message is one line that says what is wrong, where (file, line, key) and what to do.
    """

    exit_code = 2


class DecodeError(ValueError):
    """Bytes that are not the protocol. The exchange becomes `malformed`."""

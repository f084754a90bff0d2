"""The one error of this room that is not the user's mistake."""

from latbench.model.errors import ExitCode


class StoreError(Exception):
    """What was measured could not be written or read: disk full, file damaged, or locked for too long. Exit code 1.

    The message is one line with the path.
    """

    exit_code = ExitCode.FAILED

"""A timer of the kernel on CLOCK_MONOTONIC, as a file that becomes readable at a moment.

The loop's own timers count whole milliseconds, and uvloop's fire early: schedules kept with them would be wrong by more
than what latbench claims to measure. A timerfd never fires early and is a tenth of a millisecond late. It is called
through ctypes, because the standard library has it only from Python 3.13 on. Linux only.
"""

import ctypes
import os

_NS = 1_000_000_000
_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1

_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


class TimerFile:
    """One timer. Moments are absolute, on the clock of `time.monotonic_ns`."""

    def __init__(self) -> None:
        self._setting = _Setting(_Timespec(0, 0), _Timespec(0, 0))
        self._reference = ctypes.byref(self._setting)
        self._file = _checked(_libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))

    def fileno(self) -> int:
        """What a loop watches."""
        return self._file

    def set(self, at_ns: int) -> None:
        """Fire at that moment, or at once where it has passed. What was set before is forgotten."""
        seconds, nanoseconds = divmod(max(1, at_ns), _NS)  # a value of zero would disarm the timer
        self._setting.value.seconds, self._setting.value.nanoseconds = seconds, nanoseconds
        _checked(_libc.timerfd_settime(self._file, _ABSOLUTE, self._reference, None))

    def fired(self) -> bool:
        """Take note that it fired; false if it was set anew, to a later moment, after the loop saw it fire."""
        try:
            os.read(self._file, 8)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Release the file."""
        os.close(self._file)

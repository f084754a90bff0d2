"""Whoever shares a core with an engine lets it go first: what is late there is late in every figure.

Two things, because neither is enough. A process that comes after its engine in rank gets little of a core that both
want. But Linux looks at who goes first only when somebody falls asleep, wakes or yields, and otherwise at its tick,
which is 4 ms at 250 Hz: an engine that has just been at work, and finds another at work when its next chunk comes,
waits for that, whatever the ranks are. So long work is cut by yields, a third of a microsecond each where nobody waits.

Neither needs a privilege. Ranks count within a session or a container, which is why an engine is started in that of its
worker (`cluster/children.py`).
"""

import os
from contextlib import suppress

_RANK = 10  # of Linux's niceness: a tenth of the weight that an engine has


def come_after_engines() -> None:
    """Rank this thread, and all that it starts from now on, behind the engines that have been started."""
    with suppress(OSError):  # where that is forbidden, the yields are left
        if os.getpriority(os.PRIO_PROCESS, 0) < _RANK:
            os.setpriority(os.PRIO_PROCESS, 0, _RANK)


def let_engines_go() -> None:
    """To be called between two pieces of work that take a part of a millisecond each."""
    os.sched_yield()

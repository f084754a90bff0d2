"""The simulated endpoint: a process of its own that answers on a schedule.

It shares no code with `providers` or `wire`, so that it cannot share their mistakes. `options` starts it, `server` is
the process, `timing` says when a token is due, `alarm` wakes the loop then, `dialects` say how it looks on the wire.
"""

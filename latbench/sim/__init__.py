"""The simulated endpoint: a process of its own that answers on a schedule.

It shares no code with `providers` or `wire`, so that it cannot share their mistakes. `options` starts it, `server` is
the process, `endpoint` takes a request through it: `limits` and `faults` may refuse it, `script` says what is answered
(`schema` makes JSON), `timing`, `cache` and `profile` say when a token is due, `alarm` wakes the loop then, `dialects`
say how it looks on the wire, `delivery` writes it.
"""

"""What whoever asks too much of this client can do about it, in the flags that are in use. Pure."""

from latbench.model.run import RunRecord, StepRecord


def relief(run: RunRecord, step: StepRecord | None = None) -> str:
    """What to change: less load, or more engines. `step` is the one that was too much; without it all are meant."""
    steps = run.steps if step is None else [step]
    less_load = sorted({less(one) for one in steps}) or ["lower the load"]
    return f"{' and '.join(less_load)}, or {_more(run)}"


def less(step: StepRecord) -> str:
    """How to ask less of the client in a step."""
    load = step.load
    if step.concurrency is not None:
        return f"lower concurrency (now {step.concurrency})"
    said = "lower the rate" if load is None else f"lower the rate (now {load.words})"
    if load is not None and load.max_in_flight is not None:
        said += f" or max_in_flight (now {load.max_in_flight})"
    return said


def _more(run: RunRecord) -> str:
    """Each engine takes a core, and what is beside it another one."""
    more = f"add workers (--workers {run.workers + 1}; now {run.workers})"
    cores = run.host.get("cores", "")
    if cores.isdecimal() and int(cores) <= run.workers + 1:
        more = f"add workers on other machines (--join; here {run.workers} of {cores} cores have one)"
    return more

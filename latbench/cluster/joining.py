"""Before the first step: wait for the workers, give each the job, and refuse what cannot carry it out."""

from collections.abc import Sequence

from latbench.cluster.run_state import RunState
from latbench.model.errors import UserError
from latbench.model.frames import prompts_sha256
from latbench.model.load import Step

ACCEPT_S = 60.0
_FILES_BESIDES = 64


def gather(state: RunState, wanted: int, patience_s: float) -> None:
    """Wait for the workers, and give each the job; one that has another scenario or other prompts is refused.

    Raises UserError for that one, ClusterFailed where `wanted` have not joined within `patience_s`.
    """
    crew, job = state.crew, state.job
    state.until(lambda: len(crew.ready()) >= wanted, patience_s, "workers did not join")
    for member in crew.ready():
        member.enlisted = True
        assert member.hello is not None
        if member.hello.why:
            state.sink.note("reduced_precision", "suspect", member.hello.why)
        job.worker = member.id
        job.origin_ns = crew.origin_ns + member.clock.offset_ns
        crew.tell(member, job)
        crew.renew(member)
    expected = (job.scenario_sha256, prompts_sha256(job.prompts))
    state.until(lambda: all(one.accepted[0] for one in crew.live()), ACCEPT_S, "workers did not take the job")
    for member in crew.live():
        if state.stop is None and member.accepted != expected:
            raise UserError(f"worker {member.id} has another scenario or other prompts: it is refused")


def check_files(state: RunState, steps: Sequence[Step]) -> None:
    """Raises UserError where a worker cannot open as many connections as its part of a step needs."""
    members = state.crew.live()
    for index, step in enumerate(steps):
        most = step.max_in_flight if step.open else step.concurrency
        if most is None or not members:
            continue
        needed = -(-most * len(state.job.endpoints) // len(members)) + _FILES_BESIDES
        for member in members:
            assert member.hello is not None
            if needed > member.hello.files:
                raise UserError(
                    f"step {index}: worker {member.id} needs {needed} open files for its part of {most} requests at a"
                    f" time, and may open {member.hello.files}: raise the limit there (ulimit -Hn) or add workers"
                )

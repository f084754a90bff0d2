"""What the workers' batches bring: committed, then acknowledged, then watched by the guards and the budget.

The guards see all workers' samples together, and each request once, however often it is told: what an engine had
written down when it died comes once more, though most of it had come before.
"""

from latbench.cluster.crew import Member
from latbench.cluster.dealer import Dealer
from latbench.cluster.merge import Once
from latbench.cluster.run_state import RunState
from latbench.model.courtesy import let_engines_go
from latbench.model.frames import Ack, Batch, Drain, Spending, StopEndpoint
from latbench.model.sample import Outcome
from latbench.plan.guards import WINDOW_NS, EndpointGuard

_AFTER_A_PAUSE = "look at the network between them, and whether a machine stood still, then run again"


class Watch:
    """One coordinator's; `restart` for each run."""

    def __init__(self, state: RunState, dealer: Dealer) -> None:
        self._state = state
        self._dealer = dealer
        self._guards: dict[str, EndpointGuard] = {}
        self._ended = Once(WINDOW_NS)

    def restart(self, *, abort_on_errors: bool) -> None:
        """Another run begins, in which nothing has gone wrong yet."""
        self._guards = {e.name: EndpointGuard(abort_on_errors=abort_on_errors) for e in self._state.job.endpoints}
        self._ended = Once(WINDOW_NS)

    def batch(self, member: Member, batch: Batch) -> None:
        """Commit, then acknowledge; a batch that was taken before is only acknowledged again.

        One of another run, which a web session may have had before this one, is nobody's any more.
        """
        state = self._state
        if not member.enlisted or batch.run_id != state.job.run_id:
            return
        if member.inbox.accept(batch.number, batch.step if batch.final else None):
            # A worker that was given up and is back has not sent what others had taken over: that is theirs to tell.
            batch.samples = [
                one for one in batch.samples if one.outcome != Outcome.DROPPED or one.due_ns < member.moved_ns
            ]
            for sample in batch.samples:
                sample.worker = member.id
            state.sink.samples(batch.samples)
            let_engines_go()
            if batch.effort is not None:
                state.sink.effort(member.id, batch.number, batch.step, batch.effort)
            let_engines_go()
            self._gauges(member, batch)
            self._judge(batch)
        state.crew.tell(member, Ack(batch.number))

    def _gauges(self, member: Member, batch: Batch) -> None:
        sink = self._state.sink
        member.in_flight = 0 if member.lost else batch.in_flight
        if batch.paused and not member.paused:
            paused = f"worker {member.id} had no word from its master for 5 s, and began nothing; {_AFTER_A_PAUSE}"
            sink.note("worker_paused", "suspect", paused)
        member.paused = member.paused or batch.paused
        if batch.idle:
            member.idle = (batch.step, batch.version)
        self._dealer.obeyed(member, batch.version)
        if batch.spool and not member.unspooled:
            member.unspooled = True
            sink.note("no_spool", "note", f"worker {member.id} cannot write down what it sends: {batch.spool}")
        known = member.planned.setdefault(batch.step, {})
        for key, count in batch.planned.items():  # cumulative, and batches may come in any order
            known[key] = max(count, known.get(key, 0))

    def _judge(self, batch: Batch) -> None:
        """Run the guards over the samples, and pass on what one engine has stopped."""
        for endpoint, reason in batch.stopped.items():
            self._stop_endpoint(endpoint, reason)
        for sample in batch.samples:
            done_ns = sample.done_ns
            if done_ns is None:
                continue  # it has begun, and no more is known
            if sample.step == self._state.step_index:  # one that was given up may be back with answers of another
                self._state.last_done_ns = max(self._state.last_done_ns, done_ns)
            if not self._ended.first((sample.endpoint, sample.step, sample.seq), done_ns):
                continue
            tripped = self._guards[sample.endpoint].add(sample)
            if tripped is not None:
                self._stop_endpoint(sample.endpoint, tripped)

    def _stop_endpoint(self, endpoint: str, reason: str) -> None:
        state = self._state
        if endpoint not in state.stopped:
            state.stopped[endpoint] = reason
            state.sink.stopped(endpoint, reason)
            state.crew.tell_all(StopEndpoint(endpoint, reason))

    def spending(self, member: Member, report: Spending) -> None:
        """A worker has used some of the budget; when it is used up, the run is over."""
        state = self._state
        if state.treasurer is None:
            return
        state.treasurer.report(member, report)
        if state.stop is None and (why := state.treasurer.used_up()):
            state.sink.spent(why)
            state.halt(Drain())

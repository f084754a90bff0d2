"""Workers that are lost: how it is noticed, what they leave behind, and what follows from it for the run."""

import gevent

from latbench.cluster.crew import Member
from latbench.cluster.dealer import Dealer
from latbench.cluster.run_state import RunState
from latbench.model.frames import Cancel, Drain
from latbench.model.lifeline import process_started

_SALVAGE_TRIES = 20
_ADVICE = "look at its log, and whether its machine was out of memory or cut off, then run again"


class Losses:
    """One coordinator's. A worker is given up only when it is certain to send nothing more."""

    def __init__(self, state: RunState, dealer: Dealer, *, abort: bool) -> None:
        """With `abort`, the loss of a worker stops the run; else the others take over its work."""
        self._state = state
        self._dealer = dealer
        self._abort = abort

    def look(self) -> None:
        """Give up those whose lease has run out unanswered."""
        for member in self._state.crew.overdue():
            self.lose(member, "not heard of until its lease had run out")

    def process_ended(self, pid: int, code: int) -> None:
        """A worker process of ours has ended, with this code."""
        member = self._state.crew.of_process(pid)
        if member is not None:
            self.lose(member, f"its process ended with {code}")
        elif not self._state.loading:
            self._state.loss = self._state.loss or f"a local worker ended with {code}; {_ADVICE}"
            self._state.changed.set()

    def lose(self, member: Member, reason: str) -> None:
        """Give a worker up, for whom nothing can be sent any more, and have the others take over."""
        if member.lost:
            return
        state = self._state
        state.crew.tell(member, Cancel())
        member.lost = True
        member.in_flight = 0
        state.loss = f"worker {member.id}: {reason}; {_ADVICE}"
        if not member.enlisted:
            return
        state.sink.note("worker_lost", "invalid", state.loss)
        self._salvage(member)
        if state.treasurer is not None:
            state.treasurer.lose(member)
        if self._abort:
            state.halt(Drain())
        if state.loading:
            self._dealer.take_over(member)

    def _salvage(self, member: Member) -> None:
        """Take over what it has written down, if that was on this machine; its engine may take a moment to die."""
        tries = _SALVAGE_TRIES
        while not self._state.sink.salvage(member.id) and tries and not _process_lives(member):
            tries -= 1
            gevent.sleep(0.05)


def _process_lives(member: Member) -> bool:
    return member.hello is None or process_started(member.hello.pid) is not None

"""The work of a step with the workers: dealt out, moved with Locust's users, and taken over from one that is lost.

`deal.py` works out who has what; here the workers are told, and told again until they have obeyed.
"""

from collections.abc import Mapping, Sequence

from latbench.cluster.crew import Member
from latbench.cluster.deal import Orphaned, Shards, Slots
from latbench.cluster.run_state import RunState
from latbench.model import frames
from latbench.model.frames import Drain, Prepare
from latbench.model.load import Step

_TAKE_OVER_NS = 200_000_000


class Dealer:
    """One coordinator's. From `deal` on it holds the parts of that step."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._deal: Slots | Shards | None = None
        self._orders: dict[str, frames.Slots | frames.Shards] = {}
        self._taken_over_ns = 0

    @property
    def orphans(self) -> Mapping[int, Sequence[Orphaned]]:
        """The shards of lost workers, and whose they were."""
        return self._deal.orphans if isinstance(self._deal, Shards) else {}

    def deal(self, index: int, step: Step, live: Sequence[Member]) -> None:
        """Deal the step out, and have the engines get ready for it."""
        crew = self._state.crew
        self._orders = {}
        names = [member.id for member in live]
        self._deal = deal = Shards(step, names) if step.open else Slots(step, len(self._state.job.endpoints))
        if isinstance(deal, Slots):
            deal.deal({member.id: member.users for member in live})
        for member in live:
            member.version, member.prepared = 0, -1
            if isinstance(deal, Slots):
                member.slots = deal.of(member.id)
                crew.tell(member, Prepare(index, step, deal.stride, slots=member.slots))
            else:
                crew.tell(member, Prepare(index, step, shards=deal.of(member.id), cap=deal.cap(member.id)))

    def follow_users(self, member: Member) -> None:
        """Locust changed the users of a worker: within an elastic step its slots follow.

        In any other step the slots are the plan, whatever becomes of the users.
        """
        step = self._state.step
        if not self._state.loading or not member.enlisted or step is None or not step.elastic:
            return
        if isinstance(self._deal, Slots):
            member.slots = self._deal.resize(member.id, member.slots, member.users)
            self._order(member)

    def take_over(self, lost: Member) -> None:
        """Deal the work of a lost worker to the others. What was due meanwhile is lost, and counted so."""
        state, deal = self._state, self._deal
        assert state.step is not None
        live = sorted(member.id for member in state.crew.live())
        taken_over_ns = state.crew.now_ns() + _TAKE_OVER_NS
        if isinstance(deal, Shards):
            deal.lose(lost.id, live, taken_over_ns)
        elif isinstance(deal, Slots) and live and not state.step.elastic:
            deal.lose(lost.id, live, state.sink.begun(lost.id, state.step_index))
        else:
            return  # in an elastic step Locust moves its users, and they bring slots of their own
        lost.moved_ns = self._taken_over_ns = taken_over_ns
        for member in state.crew.live():
            self._order(member)

    def retire(self, member: Member) -> None:
        """A worker that was given up speaks again: nothing is its own any more."""
        member.version += 1
        if isinstance(self._deal, Shards):
            self._state.crew.tell(member, frames.Shards([], self._taken_over_ns, None, member.version))
        else:
            self._state.crew.tell(member, frames.Slots([], member.version))
        self._state.crew.tell(member, self._state.stop or Drain())

    def _order(self, member: Member) -> None:
        """Tell a worker what is its own now."""
        deal = self._deal
        member.version += 1
        order: frames.Slots | frames.Shards
        if isinstance(deal, Shards):
            order = frames.Shards(deal.of(member.id), self._taken_over_ns, deal.cap(member.id), member.version)
        else:
            if deal is not None and self._state.step is not None and not self._state.step.elastic:
                member.slots = deal.of(member.id)
            order = frames.Slots(member.slots, member.version)
        self._orders[member.id] = order
        self._state.crew.tell(member, order)

    def obeyed(self, member: Member, version: int) -> None:
        """A worker says that it has obeyed its orders up to this one."""
        if version == member.version:
            self._orders.pop(member.id, None)

    def say_again(self, member: Member) -> None:
        """Tell a worker once more what it has not obeyed, if there is anything."""
        if member.id in self._orders:
            self._state.crew.tell(member, self._orders[member.id])

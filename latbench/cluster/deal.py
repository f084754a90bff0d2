"""Who does what in a step: slots or shards dealt to the workers, and dealt again when one is lost. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from latbench.model.frames import Slot
from latbench.model.load import Step
from latbench.plan.partition import ELASTIC_SLOTS, GENERATION, caps, redeal, shards_of


class Slots:
    """The slots of a closed loop. Slot s of E endpoints is slot s // E of endpoint s % E."""

    def __init__(self, load: Step, endpoints: int) -> None:
        assert load.concurrency is not None
        self._load = load
        self._endpoints = endpoints
        self._generation = 0
        self.stride = ELASTIC_SLOTS if load.elastic else load.concurrency
        self.owners: dict[int, str] = {}
        self._slots: dict[int, Slot] = {}

    @property
    def places(self) -> int:
        """How many slots there can be."""
        return self.stride * self._endpoints

    def slot(self, number: int) -> Slot:
        """A slot as it begins: so many turns of so many requests are its own."""
        first = number // self._endpoints
        requests = self._load.requests
        return Slot(number, first, None if requests is None else max(0, -(-(requests - first) // self.stride)))

    def deal(self, users: Mapping[str, int]) -> None:
        """As many slots to each worker as it has users; what is left over goes round, in a step with an end."""
        assert self._load.concurrency is not None
        left = list(range(self._load.concurrency * self._endpoints))
        for worker, count in users.items():
            self.owners.update(dict.fromkeys(left[:count], worker))
            left = left[count:]
        if not self._load.elastic:
            workers = list(users)
            self.owners.update({number: workers[place % len(workers)] for place, number in enumerate(left)})
        self._slots = {number: self.slot(number) for number in self.owners}

    def of(self, worker: str) -> list[Slot]:
        """The slots of a worker."""
        return [self._slots[number] for number, owner in sorted(self.owners.items()) if owner == worker]

    def resize(self, worker: str, kept: Sequence[Slot], count: int) -> list[Slot]:
        """Locust changed the users of a worker: its slots now. A slot never changes its worker in an elastic step.

        (Only that one knows which sequence numbers it has used.)
        """
        slots = list(kept[:count])
        held = {slot.number for slot in slots}
        number = 0
        while len(slots) < count and number < self.places:
            if number not in held and self.owners.setdefault(number, worker) == worker:
                slots.append(self.slot(number))
            number += 1
        return slots

    def lose(self, worker: str, live: Sequence[str], begun: Mapping[int, int]) -> None:
        """Deal a lost worker's slots again. `begun` says how many turns of each are known to have begun.

        They go on in sequence numbers of their own: what the lost worker may have sent unseen keeps its numbers.
        """
        moved = [number for number, owner in self.owners.items() if owner == worker]
        self.owners = redeal(self.owners, worker, live)
        self._generation += 1
        for number in moved:
            turns = self._slots[number].turns
            left = None if turns is None else max(0, turns - begun.get(number, 0))
            self._slots[number] = Slot(number, self._generation * GENERATION + number // self._endpoints, left)


class Orphaned(NamedTuple):
    """A shard was this worker's, who is lost. What is due from `until_ns` of the run on is its next owner's."""

    until_ns: int
    worker: str


def lost_with(owners: Sequence[Orphaned], due_ns: int) -> str:
    """With which of a shard's lost owners, in their order, an arrival without a record was lost.

    With the last of them also what was due later, whether or not anybody was left to send it.
    """
    return next((owner.worker for owner in owners if due_ns < owner.until_ns), owners[-1].worker)


class Shards:
    """The shards of an open loop."""

    def __init__(self, load: Step, workers: Sequence[str]) -> None:
        """With a cap on what is in flight, no more workers send than the cap allows one request each."""
        self._cap = load.max_in_flight
        senders = workers if self._cap is None else workers[: self._cap]
        dealt = shards_of(senders)
        self.owners = {shard: worker for worker, shards in dealt.items() for shard in shards}
        self.orphans: dict[int, list[Orphaned]] = {}

    def of(self, worker: str) -> list[int]:
        """The shards of a worker."""
        return sorted(shard for shard, owner in self.owners.items() if owner == worker)

    def cap(self, worker: str) -> int | None:
        """How much of the cap is a worker's."""
        return None if self._cap is None else caps(self._cap, self.owners).get(worker, 0)

    def lose(self, worker: str, live: Sequence[str], until_ns: int) -> None:
        """Deal a lost worker's shards again, from that moment on. Without anybody left, to nobody.

        `orphans` remembers whose they were: a shard may lose its second owner, too.
        """
        for shard in self.of(worker):
            self.orphans.setdefault(shard, []).append(Orphaned(until_ns, worker))
        if live:
            self.owners = redeal(self.owners, worker, self._senders(live))

    def _senders(self, live: Sequence[str]) -> Sequence[str]:
        """Who may have shards. Under a cap those that have some keep them, and one more may join for each that is lost.

        (To more workers than the cap has requests it would leave some that may send nothing.)
        """
        sending = set(self.owners.values())
        return live if self._cap is None else sorted(live, key=lambda worker: worker not in sending)[: self._cap]

"""The budget at the master: what workers report of it, and the grants that go back. The rules: `plan/budget.py`."""

from latbench.cluster.crew import Crew, Member
from latbench.model import frames
from latbench.model.frames import Spending
from latbench.plan.budget import Amount, Grant, Limits, Order, PurseState, Treasury


class Treasurer:
    """Made when all workers of the run have joined: each gets a first grant at once."""

    def __init__(self, crew: Crew, limits: Limits) -> None:
        self._crew = crew
        self._treasury = Treasury(limits)
        for member in crew.live():
            self._treasury.join(member.id)
        self._send(self._treasury.orders())

    def report(self, member: Member, report: Spending) -> None:
        """Learn what a worker has used, and send the orders that follow."""
        want = None if report.want is None else Amount(*report.want)
        amounts = (Amount(*report.grant), Amount(*report.reserved), Amount(*report.held))
        self._send(self._treasury.report(member.id, PurseState(report.version, *amounts, want, report.number)))

    def lose(self, member: Member) -> None:
        """A worker is lost: what it may have spent counts as spent."""
        self._treasury.lose(member.id)
        self._send(self._treasury.orders())

    def used_up(self) -> str:
        """Why nothing more can be sent; empty while something can."""
        if not self._treasury.exhausted:
            return ""
        return f"used up before the plan was done: {self._treasury.words()}; the next request could exceed it"

    def _send(self, orders: list[Order]) -> None:
        for worker, order in orders:
            member = self._crew.members[worker]
            if isinstance(order, Grant):
                total = (order.total.requests, order.total.tokens, order.total.nano_usd)
                self._crew.tell(member, frames.Grant(total, order.version))
            else:
                self._crew.tell(member, frames.Recall(order.version))

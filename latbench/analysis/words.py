"""The numbers by which analysis knows outcomes."""

from latbench.model.sample import Outcome

OUTCOMES: tuple[str, ...] = tuple(outcome.value for outcome in Outcome)
OK = OUTCOMES.index(Outcome.OK)
RATE_LIMITED = OUTCOMES.index(Outcome.RATE_LIMITED)

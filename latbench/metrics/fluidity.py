"""The share of an answer's tokens that were there in time for somebody who reads at a steady pace.

The fluidity index of etalon (`docs/tutorials/metrics_used.rst` of the repository project-etalon/etalon, read at commit
09d935e): the first token is due after the time to the first token that is allowed, each further one a token's time
after the deadline of the one before. Early tokens are slack for later ones. After a token that was late the slack is
gone: the deadlines go on from its own arrival.
"""

from typing import NamedTuple

import numpy as np

from latbench.model.sample import Sample, decode_gaps


class Pace(NamedTuple):
    """When a reader begins, after `sent`, and how long a token takes him: the limits on TTFT and TPOT."""

    first_ns: float
    token_ns: float


def fluidity(sample: Sample, pace: Pace) -> float | None:
    """The share of tokens in time, 0 to 1; None where their times are not known, as where reasoning was not streamed.

    A chunk is not a token: the tokens are spread evenly over the chunks of the answer.
    """
    tokens = sample.output_tokens
    if not tokens or sample.sent_ns is None or sample.first_token_ns is None:
        return None
    if sample.reasoning_tokens and not sample.reasoning_streamed:
        return None
    first_ns = sample.first_token_ns - sample.sent_ns
    arrived_ns = first_ns + np.concatenate(([0], np.cumsum(decode_gaps(sample.gaps)))) if sample.gaps else first_ns
    return 1 - _late(np.atleast_1d(arrived_ns), tokens, pace) / tokens


def _late(arrived_ns: np.ndarray, tokens: int, pace: Pace) -> int:
    """How many tokens came after their deadline, of chunks that arrived at these times.

    With b = arrival - place * token_ns, the rule of deadlines comes to this: a token is late where its b is above
    `first_ns` and above every b before it. Within a chunk b falls, so that only its first token can be late.
    """
    chunks = len(arrived_ns)
    if tokens < chunks:
        place = np.arange(tokens)
        arrived_ns = arrived_ns[place * chunks // tokens]
    else:
        place = np.ceil(np.arange(chunks) * (tokens / chunks))
    behind = arrived_ns - place * pace.token_ns
    allowed = np.maximum.accumulate(np.concatenate(([pace.first_ns], behind[:-1])))
    return int(np.count_nonzero(behind > allowed))

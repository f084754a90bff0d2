"""A run of half a million requests: what its summary costs in memory."""

import os
import subprocess
import sys

import pytest

REQUESTS = 500_000
LIMIT_BYTES = 250_000_000

PROGRAM = """
import resource, sys
import numpy as np
from latbench.analysis.groups import PromptInfo
from latbench.analysis.summary import summarise
from latbench.model.load import Poisson, Step
from latbench.model.run import RunRecord, StepRecord
from latbench.model.sample import Sample, encode_gaps

S, MS = 1_000_000_000, 1_000_000
requests = int(sys.argv[1])
prompts = {f"p{i}": PromptInfo(f"task{i % 6}", f"lang{i % 7}", (f"tag{i % 20}",), 80 * i, "h") for i in range(182)}
random = np.random.default_rng(1)
gaps = [encode_gaps(np.cumsum(random.integers(5 * MS, 60 * MS, 40))) for _ in range(1000)]

def samples():
    for seq in range(requests):
        due = seq * MS
        first = due + 80 * MS + seq % 97 * MS
        last = first + 400 * MS
        yield Sample("e", 0, seq, f"p{seq % 182}", "measure", "ok", due_ns=due, sent_ns=due + MS, first_token_ns=first,
                     first_text_ns=first, last_token_ns=last, done_ns=last, chunks=40,
                     gaps=bytes(bytearray(gaps[seq % 1000])), input_tokens=100, output_tokens=50, token_source="usage")

load = Step(Poisson(1000.0), duration_ns=600 * S)
step = StepRecord(0, "poisson", None, 1000.0, None, 0, 0, 600 * S, load)
run = RunRecord("i", "n", "s", "h", {}, "t", 1, 0, endpoints={"e": {}}, steps=[step], state="complete",
                slo={"ttft": 150.0, "e2e": 900.0}, prices={"e": {"input": 1.0, "output": 2.0}})
summarise(run, [next(samples())], prompts)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert summarise(run, samples(), prompts)["validity"]["ok"] == requests
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.long
def test_half_a_million_requests_are_summed_up_in_250_megabytes() -> None:
    command = [sys.executable, "-c", PROGRAM, str(REQUESTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, env=dict(os.environ))
    assert int(done.stdout) < LIMIT_BYTES

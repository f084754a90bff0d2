"""Parts of the coordinator by themselves: the order to stop, the last answer of a step, and whose losses are whose.

Locust patches the standard library: each script runs in a process of its own.
"""

import json
import subprocess
import sys
from typing import Any

import pytest

PARTS = """
import json, sys

import numpy as np
from gevent.event import Event
from locust.env import Environment

from latbench.cluster.account import Account
from latbench.cluster.crew import Crew, Member
from latbench.cluster.deal import Orphaned
from latbench.cluster.dealer import Dealer
from latbench.cluster.handshake import MasterSide
from latbench.cluster.losses import Losses
from latbench.cluster.run_state import RunState
from latbench.cluster.watch import Watch
from latbench.model.frames import Batch, Cancel, Drain, Job
from latbench.model.load import Closed, Poisson, Step
from latbench.model.request import Endpoint, Prompt, Timeouts
from latbench.model.sample import Sample

class Sink:
    # Keeps what it is given.
    def __init__(self):
        self.kept, self.notes = [], []
    def step_begins(self, step): ...
    def step_over(self, step, planned, lost): ...
    def salvage(self, worker): return True
    def samples(self, samples): self.kept += samples
    def recorded(self, endpoint, step): return np.empty(0, dtype=np.int64)
    def note(self, code, severity, message, value=None, limit=None): self.notes.append([code, value, limit, message])

runner = Environment(user_classes=[]).create_local_runner()
changed = Event()
crew = Crew(runner, None, lambda member, report: None, changed.set)
state, sink = RunState(crew, changed), Sink()
endpoint = Endpoint(name="e", provider="p", api="openai-chat", base_url="http://127.0.0.1:9/v1", model="m")
prompt = Prompt(id="p", task="chat", language="en", messages=(), tokens=1, sha256="")
job = Job(
    run_id="run", worker="", version="1", scenario_sha256="", origin_ns=0, seed=7, endpoints=[endpoint],
    prompts=[prompt], weights={"chat": 1.0}, max_tokens=8, cold=False, timeouts=Timeouts(1, 1, 1, 1), drain_ns=10**9,
)
state.restart(job, sink)

def work(given):
SCRIPT

print(json.dumps(work(json.loads(sys.argv[1]))))
crew.close()
runner.quit()
"""

STOP = """
    said = []
    for word in given:
        changed.clear()
        state.halt(Cancel() if word == "cancel" else Drain())
        said.append([type(state.stop).__name__, state.stopped_ns, changed.is_set()])
    return said
"""

LAST_ANSWER = """
    watch = Watch(state, Dealer(state))
    watch.restart(abort_on_errors=True)
    member = Member("w", MasterSide(None, "w"), enlisted=True)
    state.step_index, said = 1, []
    for number, (step, seq, done_ns) in enumerate(given, 1):
        sample = Sample(
            endpoint="e", step=step, seq=seq, prompt_id="p", phase="measure", outcome="ok", done_ns=done_ns
        )
        watch.batch(member, Batch(step, [sample], 0, run_id="run", number=number))
        said.append(state.last_done_ns)
    return said
"""

REFUSALS = """
    sink.stopped = lambda endpoint, reason: None
    watch = Watch(state, Dealer(state))
    watch.restart(abort_on_errors=False)
    for number, (code, message) in enumerate(given, 1):  # each from a worker of its own: no engine has seen two
        member = Member(f"w{number}", MasterSide(None, f"w{number}"), enlisted=True)
        sample = Sample(
            endpoint="e", step=0, seq=number, prompt_id="p", phase="measure", outcome="invalid_request", status=400,
            done_ns=number, error_code=code, error_message=message,
        )
        watch.batch(member, Batch(0, [sample], 0, run_id="run", number=1))
    return state.stopped
"""

LOSSES = """
    account = Account(job, sink, 0, Step(Poisson(50.0), duration_ns=4 * 10**9))
    account.open(10**9)
    history = [Orphaned(*one) for one in given]
    account.close([], {}, None, 0, 9 * 10**9, {shard: history for shard in range(64)})
    return [[sample.due_ns, sample.worker, sample.outcome] for sample in sink.kept], sink.notes
"""

UNRECORDED = """
    account = Account(job, sink, 0, Step(Poisson(50.0), duration_ns=4 * 10**9))
    account.open(10**9)
    account.close([], {}, None, 0, given, {})
    closed = Account(job, sink, 1, Step(Closed(4), requests=9))
    closed.open(10**9)
    member = Member("w", MasterSide(None, "w"), planned={1: {"e/measure": 7}})
    closed.close([member], {}, None, 0, given, {})
    return sink.notes
"""

PAUSED = """
    watch = Watch(state, Dealer(state))
    watch.restart(abort_on_errors=True)
    member = Member("w", MasterSide(None, "w"), enlisted=True)
    for number in (1, 2):
        watch.batch(member, Batch(0, [], 0, run_id="run", number=number, paused=True))
    return sink.notes
"""

GIVEN_UP = """
    member = Member("w", MasterSide(None, "w"), enlisted=True)
    Losses(state, Dealer(state), abort=False).lose(member, given)
    return sink.notes, state.loss
"""
NOTED = """
    from types import SimpleNamespace
    from latbench.run import Session
    session = SimpleNamespace(record=SimpleNamespace(notes=[]))
    for note in given:
        Session.note(session, *note)
    return session.record.notes
"""

MODES = """
    job.modes = tuple(given)
    job.prompts = [Prompt(id=f"p{n}", task="chat", language="en", messages=(), tokens=1, sha256="") for n in range(9)]
    account = Account(job, sink, 0, Step(Poisson(50.0), duration_ns=10**9))
    account.open(10**9)
    account.close([], {}, None, 0, 9 * 10**9, {shard: [Orphaned(9 * 10**9, "w")] for shard in range(64)})
    return [[sample.seq, sample.prompt_id, sample.output_mode] for sample in sink.kept]
"""


def does(script: str, given: object) -> Any:
    """What a script says, in a process of its own."""
    command = [sys.executable, "-c", PARTS.replace("SCRIPT", script.strip("\n")), json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("orders", "stands"),
    [
        (["drain", "cancel", "drain"], ["Drain", "Cancel", "Cancel"]),
        (["cancel", "drain", "cancel"], ["Cancel", "Cancel", "Cancel"]),
    ],
)
def test_an_order_never_gets_weaker(orders: list[str], stands: list[str]) -> None:
    """A drain that the budget or a lost worker brings about takes no cancellation back."""
    said = does(STOP, orders)
    assert [order for order, _, _ in said] == stands
    assert len({since_ns for _, since_ns, _ in said}) == 1, "the load ended with the first of them"
    assert all(woken for _, _, woken in said)


def test_an_answer_of_another_step_is_not_the_last_of_this_one() -> None:
    """One that was given up in the step before is back, and brings what was answered meanwhile."""
    assert does(LAST_ANSWER, [(1, 0, 50), (0, 3, 90), (1, 1, 40), (1, 1, 40), (1, 2, 60)]) == [50, 50, 50, 50, 60]


@pytest.mark.parametrize(
    ("code", "message", "stopped"),
    [
        ("API_KEY_INVALID", "no", {"e": "credentials refused (HTTP 400) 3 times in a row"}),
        ("400", "m is not a valid model ID", {"e": "model unknown (HTTP 400) 3 times in a row"}),
        ("context_length_exceeded", "This model takes 8192 tokens.", {}),
    ],
)
def test_the_words_of_three_workers_refusals_are_put_together(code: str, message: str, stopped: dict[str, str]) -> None:
    assert does(REFUSALS, [(code, message)] * 3) == stopped
    assert does(REFUSALS, [(code, message)] * 2) == {}


def test_what_was_lost_is_put_down_to_whoever_had_it() -> None:
    """Shards that lost their first owner after 1.5 s of the step, and their second after 3."""
    lost, notes = does(LOSSES, [(2_500_000_000, "a"), (4_000_000_000, "b")])
    assert notes == []
    assert {outcome for _, _, outcome in lost} == {"lost"}
    first = [worker for due_ns, worker, _ in lost if due_ns < 2_500_000_000]
    second = [worker for due_ns, worker, _ in lost if due_ns >= 2_500_000_000]
    assert len(first) > 20
    assert len(second) > 20
    assert (set(first), set(second)) == ({"a"}, {"b"})


def test_what_nobody_can_account_for_is_a_mistake_of_ours_and_says_how_much_it_is() -> None:
    """No worker was lost and nobody stopped the load: it ended after one of four seconds, and without a record."""
    (*missing, first), (*early, second), (*unsent, third) = does(UNRECORDED, 2 * 10**9)
    due = missing[2]
    assert (missing, early, unsent) == (["not_all_sent", 0, due], ["ended_early", 1.0, 4.0], ["not_all_sent", 7, 9])
    assert first.startswith(f"e: {due} of {due} arrivals have no record; ")
    assert second.startswith("the load ended 3.0 s before its time; ")
    assert third.startswith("e: 7 of 9 requests were begun; ")
    assert all(note.endswith("; do not use the figures, report a bug") for note in (first, second, third))


def test_a_worker_that_paused_or_was_lost_is_named_with_what_to_do() -> None:
    ((code, _, _, paused),) = does(PAUSED, None)
    assert code == "worker_paused"
    assert paused.startswith("worker w had no word from its master for 5 s")
    assert "look at the network between them" in paused
    ((code, _, _, lost),), loss = does(GIVEN_UP, "its process ended with -9")
    assert (code, lost) == ("worker_lost", loss)
    assert lost.startswith("worker w: its process ended with -9; look at its log")


def test_a_note_has_its_figure_and_limit_and_stands_once() -> None:
    lost = ["worker_lost", "invalid", "worker w: gone"]
    short = ["not_all_sent", "invalid", "two are missing", 7, 9]
    keys = ("code", "severity", "advice", "value", "limit")
    assert does(NOTED, [lost, short, lost]) == [
        dict(zip(keys, short, strict=True)),
        dict(zip(keys, [*lost, None, None], strict=True)),
    ]


def test_what_is_lost_of_a_pair_has_its_prompt_and_each_mode_once() -> None:
    """As the engine would have sent it: the prompt by the number of the pair, the modes in turns."""
    lost = does(MODES, ["text", "tool"])
    assert [seq for seq, _, _ in lost] == list(range(len(lost)))
    pairs = [lost[at : at + 2] for at in range(0, len(lost) - 1, 2)]
    assert len(pairs) > 10
    assert all(first[1] == second[1] for first, second in pairs)
    assert len({first[1] for first, _ in pairs}) > 3
    modes = [(first[2], second[2]) for first, second in pairs]
    assert modes == [("text", "tool") if number % 2 == 0 else ("tool", "text") for number in range(len(pairs))]

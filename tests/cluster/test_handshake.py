"""Handshake and seals: what is lost heals, what is forged is never heard, and a refusal says why on both sides."""

import contextlib
import hmac
import random
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.cluster.handshake import (
    SECRET_ENV,
    WINDOW,
    Forged,
    Heard,
    MasterSide,
    Refused,
    Side,
    WorkerSide,
    is_loopback,
    secret_from,
)
from latbench.model.errors import UserError

SECRET = b"correct horse battery staple"
OTHER = b"correct horse battery stable"

both = pytest.mark.parametrize("secret", [SECRET, None], ids=["secret", "no secret"])


def joined(secret: bytes | None = SECRET, worker: str = "w-1") -> tuple[WorkerSide, MasterSide]:
    """Two sides that have agreed."""
    ours, theirs = WorkerSide(secret, worker), MasterSide(secret, worker)
    talk(ours, theirs, ours.hello())
    return ours, theirs


def talk(worker: WorkerSide, master: MasterSide, said: bytes) -> list[bytes]:
    """Carry a message of the worker's to the master, and replies to and fro; everything that was said."""
    heard: list[bytes] = []
    listener: Side = master
    reply: bytes | None = said
    while reply is not None:
        heard.append(reply)
        payload, reply = listener.receive(reply)
        assert payload is None
        listener = worker if listener is master else master
    return heard


# --- the handshake ----------------------------------------------------------------------------------------------------


@both
def test_two_sides_agree_and_talk_both_ways(secret: bytes | None) -> None:
    worker, master = WorkerSide(secret, "w-1"), MasterSide(secret, "w-1")
    answer = master.receive(worker.hello()).reply
    assert answer is not None
    assert not worker.ready
    ready = worker.receive(answer)
    assert (worker.ready, master.ready) == (False, False)
    confirmed = master.receive(ready.reply or b"")
    assert (worker.ready, master.ready) == (False, True)
    assert worker.receive(confirmed.reply or b"") == Heard()
    assert worker.ready
    for payload in (b"", b"\x01", b"batch" * 1000):
        assert master.receive(worker.seal(payload)) == Heard(payload)
        assert worker.receive(master.seal(payload)) == Heard(payload)


@both
@given(chance=st.randoms(use_true_random=False))
def test_hello_again_heals_whatever_was_lost(secret: bytes | None, chance: random.Random) -> None:
    """A link that loses half, doubles and delays: it ends as soon as four messages in a row get through."""
    worker, master = WorkerSide(secret, "w"), MasterSide(secret, "w")
    on_the_way: list[tuple[Side, bytes]] = []
    for attempt in range(200):
        on_the_way.append((master, worker.hello()))
        while on_the_way:
            listener, data = on_the_way.pop(chance.randrange(len(on_the_way)))
            if attempt < 100 and chance.random() < 0.5:
                continue
            for _ in range(2 if chance.random() < 0.1 else 1):
                with contextlib.suppress(Forged):  # the second of two
                    reply = listener.receive(data).reply
                    if reply is not None and len(on_the_way) < 50:
                        on_the_way.append((worker if listener is master else master, reply))
        if worker.ready:
            break
    assert worker.ready
    assert master.ready
    assert master.receive(worker.seal(b"x")) == Heard(b"x")
    assert worker.receive(master.seal(b"y")) == Heard(b"y")


@both
def test_a_first_message_proves_a_side_where_its_ready_was_lost(secret: bytes | None) -> None:
    worker, master = WorkerSide(secret, "w"), MasterSide(secret, "w")
    answer = master.receive(worker.hello()).reply
    ready = worker.receive(answer or b"").reply
    master.receive(ready or b"")  # and what the master replies is lost
    assert worker.receive(master.seal(b"job")) == Heard(b"job")
    assert worker.ready


def test_a_worker_that_starts_anew_before_it_has_proved_itself_is_answered_anew() -> None:
    first, second, master = WorkerSide(SECRET, "w"), WorkerSide(SECRET, "w"), MasterSide(SECRET, "w")
    stale = first.receive(master.receive(first.hello()).reply or b"").reply
    talk(second, master, second.hello())
    assert second.ready
    with pytest.raises(Forged):
        master.receive(stale or b"")
    with pytest.raises(Forged, match="another hello"):
        master.receive(first.hello())
    assert master.receive(second.seal(b"x")) == Heard(b"x")


def test_nothing_is_sealed_before_the_other_side_has_proved_itself() -> None:
    worker, master = WorkerSide(SECRET, "w"), MasterSide(SECRET, "w")
    master.receive(worker.hello())
    for side in (worker, master):
        with pytest.raises(AssertionError):
            side.seal(b"x")


@pytest.mark.parametrize(
    ("ours", "theirs", "to_worker", "to_master"),
    [
        (None, SECRET, "the master wants a secret", "the worker has no secret"),
        (SECRET, None, "the master has no secret", "the worker has a secret"),
        (SECRET, OTHER, "the master has another secret", "the worker has another secret"),
    ],
)
def test_both_sides_learn_why_it_cannot_be(
    ours: bytes | None, theirs: bytes | None, to_worker: str, to_master: str
) -> None:
    worker, master = WorkerSide(ours, "w"), MasterSide(theirs, "w")
    reasons: dict[Side, str] = {}
    listener: Side = master
    said: bytes | None = worker.hello()
    while said is not None:
        try:
            said = listener.receive(said).reply
        except Refused as refused:
            reasons[listener] = str(refused)
            said = refused.reply
        listener = worker if listener is master else master
    assert reasons[worker].startswith(to_worker)
    assert reasons[master].startswith(to_master)
    for reason in reasons.values():
        assert SECRET_ENV in reason
        assert SECRET.decode() not in reason
    assert not worker.ready
    assert not master.ready


@pytest.mark.parametrize(("ours", "theirs"), [(SECRET, None), (None, SECRET)])
def test_an_answer_without_what_the_worker_has_is_refused(ours: bytes | None, theirs: bytes | None) -> None:
    """A master that answers although it should have refused: nothing is downgraded."""
    worker, stranger = WorkerSide(ours, "w"), WorkerSide(theirs, "w")
    answer = MasterSide(theirs, "w").receive(stranger.hello()).reply
    with pytest.raises(Refused):
        worker.receive(answer or b"")
    assert not worker.ready


def test_a_secret_proves_the_id_by_which_messages_are_routed() -> None:
    worker, master = WorkerSide(SECRET, "w-1"), MasterSide(SECRET, "w-2")
    answer = master.receive(worker.hello()).reply
    with pytest.raises(Refused):
        worker.receive(answer or b"")


def test_no_secret_and_no_key_is_in_what_is_said() -> None:
    worker, master = WorkerSide(SECRET, "w"), MasterSide(SECRET, "w")
    said = [*talk(worker, master, worker.hello()), worker.seal(b"x"), master.seal(b"y")]
    assert len(said) == 6
    assert not any(SECRET in message for message in said)
    again = talk(*(fresh := (WorkerSide(SECRET, "w"), MasterSide(SECRET, "w"))), fresh[0].hello())
    assert not set(said) & set(again), "nonces make every session another"


# --- forgery ----------------------------------------------------------------------------------------------------------


def refuses(side: Side, data: bytes) -> None:
    with pytest.raises(Forged):
        side.receive(data)


def test_a_session_takes_nothing_twice_nothing_of_its_own_and_nothing_of_another() -> None:
    worker, master = joined()
    for _ in range(3):
        up, down = worker.seal(b"up"), master.seal(b"down")
        refuses(worker, up)  # reflected
        refuses(master, down)
        assert master.receive(up) == Heard(b"up")
        assert worker.receive(down) == Heard(b"down")
        refuses(master, up)  # replayed
        refuses(worker, down)
    other_worker, other_master = joined()
    for there in (joined(OTHER), (other_worker, other_master), joined(worker="w-2")):
        refuses(master, there[0].seal(b"up"))
        refuses(worker, there[1].seal(b"down"))


def test_a_recorded_session_means_nothing_to_a_new_worker_or_a_new_master() -> None:
    """Everything that one session said, played again to a side that has made its own nonce since."""
    worker, master = WorkerSide(SECRET, "w"), MasterSide(SECRET, "w")
    hello, answer, ready, confirmed = talk(worker, master, worker.hello())
    new_worker, new_master = WorkerSide(SECRET, "w"), MasterSide(SECRET, "w")
    new_master.receive(hello)
    for message in (ready, worker.seal(b"up")):
        refuses(new_master, message)
    for message in (answer, confirmed, master.seal(b"down")):
        refuses(new_worker, message)
    assert not new_worker.ready
    assert not new_master.ready


@both
@pytest.mark.parametrize("change", [lambda hello: hello[:-1], lambda hello: hello + b"x", lambda hello: hello[:1]])
def test_half_a_hello_is_none(secret: bytes | None, change: Callable[[bytes], bytes]) -> None:
    worker, master = WorkerSide(secret, "w"), MasterSide(secret, "w")
    refuses(master, change(worker.hello()))
    talk(worker, master, worker.hello())


@both
def test_a_session_outlives_what_belongs_to_a_handshake(secret: bytes | None) -> None:
    worker, master = joined(secret)
    other_worker, other_master = WorkerSide(secret, "w-1"), MasterSide(secret, "w-1")
    answer = other_master.receive(worker.hello()).reply
    for code in (b"\x01", b"\x02", b"\x03", b"\x04", b""):
        for side in (worker, master):
            with pytest.raises(Forged) as forged:
                side.receive(b"\x03" + code)
            assert type(forged.value) is Forged, "a refusal would end the session, and anybody can send one"
    refuses(master, other_worker.hello())
    refuses(worker, answer or b"")
    assert master.receive(worker.hello()).reply is not None
    assert master.receive(worker.seal(b"x")) == Heard(b"x")
    assert worker.receive(master.seal(b"y")) == Heard(b"y")


@both
@given(
    data=st.binary(max_size=80) | st.builds(bytes.__add__, st.sampled_from([bytes([n]) for n in range(8)]), st.binary())
)
def test_bytes_from_anywhere_get_nobody_in(secret: bytes | None, data: bytes) -> None:
    """Before the handshake, in the middle of it, and after it, whatever bytes come."""
    worker, master = WorkerSide(secret, "w"), MasterSide(secret, "w")
    answer = master.receive(worker.hello()).reply or b""
    later = joined(secret)
    for side in (WorkerSide(secret, "w"), MasterSide(secret, "w"), worker, master, *later):
        try:
            heard = side.receive(data)
        except Forged:
            continue
        assert secret is None or heard.payload is None
        assert secret is None or not side.ready or side in later
    if secret is not None and data[:1] != b"\x01":  # another hello, before the proof, is the one that counts
        talk(worker, master, worker.hello())
        assert worker.receive(answer).reply is not None
        assert worker.ready
        assert master.ready


@given(st.data())
def test_a_changed_message_is_no_message(data: st.DataObject) -> None:
    """One bit flipped, cut short, or with bytes added, at either side, in the handshake and after it."""
    worker, master = WorkerSide(SECRET, "w"), MasterSide(SECRET, "w")
    stage = data.draw(st.sampled_from(["answer", "ready", "up", "down"]))
    answer = master.receive(worker.hello()).reply or b""
    listener: Side = worker
    message = answer
    if stage != "answer":
        listener, message = master, worker.receive(answer).reply or b""
    if stage in ("up", "down"):
        worker.receive(master.receive(message).reply or b"")
        payload = data.draw(st.binary(max_size=64))
        listener, message = (master, worker.seal(payload)) if stage == "up" else (worker, master.seal(payload))
    ready = listener.ready
    changed = bytearray(message)
    change = data.draw(st.sampled_from(["flip", "cut", "add"]))
    if change == "flip":
        bit = data.draw(st.integers(0, len(message) * 8 - 1))
        changed[bit // 8] ^= 1 << bit % 8
    elif change == "cut":
        del changed[data.draw(st.integers(0, len(message) - 1)) :]
    else:
        changed += data.draw(st.binary(min_size=1, max_size=40))
    refuses(listener, bytes(changed))
    assert listener.ready == ready
    listener.receive(message)  # the true one is taken all the same


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_each_sealed_message_arrives_once_in_any_order(payloads: list[bytes], chance: random.Random) -> None:
    """Both directions mixed, repeated and reflected: each side hears what the other has sealed, each once."""
    worker, master = joined()
    up, down = [worker.seal(payload) for payload in payloads], [master.seal(payload) for payload in payloads]
    arriving = [(side, message) for side in (worker, master) for message in (*up, *down) for _ in range(2)]
    chance.shuffle(arriving)
    heard: dict[Side, list[bytes]] = {worker: [], master: []}
    for side, message in arriving:
        try:
            payload = side.receive(message).payload
        except Forged:
            continue
        assert payload is not None
        heard[side].append(payload)
    assert sorted(heard[worker]) == sorted(heard[master]) == sorted(payloads)


def test_a_message_may_be_late_but_not_very() -> None:
    worker, master = joined()
    messages = [worker.seal(str(number).encode()) for number in range(3 * WINDOW)]
    master.receive(messages[WINDOW])
    refuses(master, messages[0])
    assert master.receive(messages[1]) == Heard(b"1")
    refuses(master, messages[1])
    assert master.receive(messages[3 * WINDOW - 1]).payload is not None
    refuses(master, messages[WINDOW])
    refuses(master, messages[2 * WINDOW - 1])
    assert master.receive(messages[2 * WINDOW]).payload is not None


def test_tags_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tag and proof goes through the comparison that takes as long for a near miss as for a far one."""
    compared: list[int] = []
    compare = hmac.compare_digest

    def spy(a: bytes, b: bytes) -> bool:
        compared.append(len(b))
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    worker, master = joined()
    assert compared == [32, 16, 16]  # the master's proof, the worker's first message, the master's
    message = bytearray(worker.seal(b"x"))
    message[-1] ^= 1
    refuses(master, bytes(message))
    assert compared == [32, 16, 16, 16]


# --- the rest ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.8.7", "::1", "localhost", "LOCALHOST", "::ffff:127.0.0.1", "0:0:0:0:0:0:0:1"]
)
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",
        "*",
        "::",
        "",
        "10.0.0.1",
        "128.0.0.1",
        "::ffff:10.0.0.1",
        "fe80::1",
        "127.0.0.1.example.org",
        "my-host",
        "localhost.example.org",
        "127.1",
    ],
)
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_the_secret_of_the_environment() -> None:
    assert secret_from({}) is None
    assert secret_from({SECRET_ENV: ""}) is None
    assert secret_from({SECRET_ENV: "sixteen letters!"}) == b"sixteen letters!"
    assert secret_from({SECRET_ENV: "ü" * 16 + "\udcff"}) == "ü".encode() * 16 + b"\xff"
    with pytest.raises(UserError, match="LATBENCH_SECRET") as short:
        secret_from({SECRET_ENV: "fifteen letters"})
    assert "fifteen letters" not in str(short.value)


def test_importing_it_imports_no_locust() -> None:
    code = "import sys, latbench.cluster.handshake; sys.exit(bool({'locust', 'gevent'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""The engine as a process of its own: exec'd, spoken to in frames, ended by its link."""

import asyncio
import os
import resource
import signal
import socket
from collections import Counter
from pathlib import Path

import pytest
from engine_kit import (
    MS,
    Link,
    S,
    closed,
    ended,
    endpoint,
    engine,
    go,
    job,
    linked,
    prompts,
    run,
    slots_of,
    timeouts,
    until,
)
from servers import CHUNKED, LAST_CHUNK, Call, Certificate, answer_well, chunk, event, held, reply, serving, sse

from latbench import __version__
from latbench.engine.clock import raw_ns
from latbench.engine.credentials import hide, secrets_of
from latbench.engine.process import serve
from latbench.engine.stamped import StampedHandler
from latbench.model.frames import (
    Accepted,
    Ack,
    Batch,
    Bye,
    Cancel,
    Drain,
    Hello,
    Lease,
    Lost,
    Ping,
    Pong,
    Prepare,
    Prepared,
    Shards,
    StopEndpoint,
    prompts_sha256,
)
from latbench.model.lifeline import clock_id
from latbench.model.load import Constant, Step
from latbench.model.sample import Attempt, Sample
from latbench.model.spool import read_spool

SECRET = "sk-live-0123456789abcdef"
OTHER_SECRET = "team-4711-secret"
ENVIRON = {"LATBENCH_TEST_KEY": SECRET, "LATBENCH_TEST_HEADER": OTHER_SECRET}


def of_process(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def test_a_run_from_hello_to_bye() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, engine() as (process, link, hello):
            assert (hello.version, hello.precision, hello.why) == (__version__, "full", "")
            assert (hello.clock_id, hello.pid, hello.host) == (clock_id(), os.getpid(), socket.gethostname())
            assert hello.files == resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            what = job(endpoint(server.url))
            before = raw_ns() - what.origin_ns
            samples, final = await link.step(what, [0, 1, 2], requests=23, start_ns=before)
            assert sorted(sample.seq for sample in samples) == list(range(23))
            assert {sample.outcome for sample in samples} == {"ok"}
            assert all(before <= sample.due_ns <= (sample.done_ns or 0) for sample in samples), "one clock"
            assert final.stopped == {}
            link.tell(Prepare(1, closed(1, 2), 1, slots_of(closed(1, 2), [0], 1, 1)))
            assert await link.expect(Prepared) == Prepared(1, {}, "")
            link.tell(go(step=1))
            assert len((await link.final())[0]) == 2
            link.tell(Bye())
            assert await link.next() is None
            assert await ended(process) == 0

    run(scenario())


def test_the_end_of_the_link_ends_the_process_in_the_middle_of_a_step() -> None:
    async def scenario() -> None:
        async with serving(held) as server, engine() as (process, link, _):
            await link.start(job(endpoint(server.url)), closed(2, 10), [0, 1])
            link.tell(go())
            await until(lambda: len(server.calls) == 2)
            await link.close()
            assert await ended(process) == 0

    run(scenario())


def test_an_interrupt_is_for_the_worker_to_judge() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, engine() as (process, link, _):
            process.send_signal(signal.SIGINT)
            samples, _final = await link.step(job(endpoint(server.url)), [0], requests=3)
            assert len(samples) == 3
            link.tell(Bye())
            assert await ended(process) == 0

    run(scenario())


def test_orders_in_the_middle_of_a_step() -> None:
    async def scenario() -> None:
        async with serving(held) as one, serving(answer_well) as other, engine() as (_, link, _hello):
            both = [endpoint(one.url, "a"), endpoint(other.url, "b")]
            await link.start(job(both, drain_ns=600 * S), closed(1, 1_000_000), [0, 1], stride=1)
            link.tell(Lease(600 * S), go(lease_ns=0))
            await until(lambda: len(one.calls) == 1 and len(other.calls) >= 5)
            link.tell(StopEndpoint("b", "budget"), Drain(), Cancel())
            samples, final = await link.final()
        assert {sample.outcome for sample in samples if sample.endpoint == "a"} == {"cancelled"}
        assert {sample.outcome for sample in samples if sample.endpoint == "b"} <= {"ok", "cancelled"}
        assert final.stopped == {"b": "budget"}

    run(scenario())


@pytest.mark.parametrize("order", [Drain(), Cancel()], ids=["drain", "cancel"])
def test_an_order_to_stop_that_comes_with_the_order_to_go_is_heard(order: Drain | Cancel) -> None:
    async def scenario() -> None:
        async with serving(held) as server, engine() as (_, link, _hello):
            await link.start(job(endpoint(server.url), drain_ns=100 * MS), closed(1, 1_000_000), [0])
            link.tell(go(), order)
            samples, _final = await link.final()
            assert len(samples) <= 1
            assert {sample.outcome for sample in samples} <= {"cancelled"}

    run(scenario())


def test_an_endpoint_that_cannot_be_reached_is_told_before_the_step() -> None:
    async def scenario() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            async with serving(answer_well) as server, engine() as (_, link, _hello):
                gone = endpoint(f"http://127.0.0.1:{taken.getsockname()[1]}/v1", "gone")
                load = closed(2, 4)
                both = [gone, endpoint(server.url, "here")]
                link.tell(job(both), Prepare(4, load, 2, slots_of(load, [0, 1, 2], 2, 2)))
                await link.expect(Accepted)
                prepared = await link.expect(Prepared)
                assert prepared.step == 4
                assert prepared.failures.keys() == {"gone"}
                assert "\n" not in prepared.failures["gone"]
                assert server.calls == []

    run(scenario())


def test_a_variable_that_is_not_set_there_is_named() -> None:
    async def scenario() -> None:
        async with engine() as (_, link, _hello):
            link.tell(job(endpoint("http://127.0.0.1:9/v1", api_key_env=("LATBENCH_TEST_ABSENT",))))
            assert "LATBENCH_TEST_ABSENT is not set" in (await link.expect(Lost)).reason

    run(scenario())


def test_a_file_of_authorities_that_is_not_there_is_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        for name, text in (("absent.pem", None), ("rubbish.pem", "no certificate")):
            path = tmp_path / name
            if text:
                path.write_text(text)
            async with engine() as (_, link, _hello):
                link.tell(job(endpoint("https://127.0.0.1:9/v1", ca_file=str(path))))
                reason = (await link.expect(Lost)).reason
                assert name in reason

    run(scenario())


async def echoes(call: Call) -> None:
    """A server that shows everybody what it was sent, wherever text can stand."""
    seen = f"{call.header('authorization')} {call.header('x-team')}"
    ways = [
        reply(401, {"error": {"message": f"Incorrect API key provided: {seen}", "code": seen, "type": seen}}),
        reply(500, seen.encode(), X_Request_Id=seen),
        CHUNKED + chunk(sse({"error": {"message": seen, "code": seen}})) + LAST_CHUNK,
        CHUNKED + chunk(b"data: " + seen.encode() + b"\n\n") + LAST_CHUNK,
        CHUNKED + chunk(event(seen, "stop", id=seen, system_fingerprint=seen, model=seen)) + LAST_CHUNK,
        CHUNKED + chunk(event("a", seen)) + LAST_CHUNK,
        seen.encode() + b"\r\n\r\n",
        b"HTTP/1.1 200 " + seen.encode() + b"\r\nTransfer-Encoding: " + seen.encode() + b"\r\n\r\n",
    ]
    await call.send(ways[call.number % len(ways)])
    await call.hang_up()


def test_no_secret_comes_up_the_link_even_if_the_server_repeats_it() -> None:
    async def scenario() -> None:
        async with serving(echoes) as server, engine(ENVIRON) as (_, link, _hello):
            to = endpoint(server.url, api_key_env=("LATBENCH_TEST_KEY",), header_env={"X-Team": "LATBENCH_TEST_HEADER"})
            samples, _final = await link.step(job(to), [0], requests=8)
            assert len(samples) == 8
            assert {call.header("authorization") for call in server.calls} == {f"Bearer {SECRET}"}
            assert {call.header("x-team") for call in server.calls} == {OTHER_SECRET}
        assert len(link.raw) > 1000
        assert SECRET.encode() not in link.raw
        assert OTHER_SECRET.encode() not in link.raw

    run(scenario())


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"key {SECRET}!", "key [secret]!"),
        (f"{SECRET}{SECRET} {OTHER_SECRET}", "[secret][secret] [secret]"),
        (f"{SECRET[:12]}{SECRET} begun twice", "[secret][secret] begun twice"),
        (f"cut at the end: {SECRET[:-4]}", "cut at the end: [secret]"),
        ("sk-live", "sk-live"),
        ("nothing of the kind", "nothing of the kind"),
        ("", ""),
    ],
)
def test_what_begins_as_a_secret_does_is_put_out(said: str, shown: str) -> None:
    sample = Sample("e", 0, 0, "p", "measure", "ok", error_message=said, text=said or None)
    hide(sample, [SECRET, OTHER_SECRET])
    assert (sample.error_message, sample.text) == (shown, shown or None)


def test_the_attempts_before_the_last_are_cleaned_too() -> None:
    plain = Attempt(0, 1, 2, "rate_limited", error_code="too_many", request_id="r-1")
    echoed = Attempt(1, 3, 4, "overloaded", 503, error_code=f"no {SECRET}", request_id=f"{OTHER_SECRET}-7")
    bare = Attempt(0, 5, 6, "overloaded")
    sample = Sample("e", 0, 0, "p", "measure", "ok", tries=[plain, echoed, bare])
    hide(sample, [SECRET, OTHER_SECRET])
    cleaned = Attempt(1, 3, 4, "overloaded", 503, error_code="no [secret]", request_id="[secret]-7")
    assert sample.tries == [plain, cleaned, bare]


def test_what_is_short_is_no_secret() -> None:
    to = endpoint("http://h/v1", api_key_env=("K",), header_env={"X": "SHORT", "Y": "L"})
    environ = {"K": " 12345 ", "SHORT": "1", "L": "123456789", "UNUSED": "abcdefgh"}
    assert secrets_of([to], environ) == ["123456789", "12345"]


def test_no_secret_stands_on_the_command_line() -> None:
    async def scenario() -> None:
        async with engine(ENVIRON) as (process, _link, _hello):
            assert SECRET not in of_process(process.pid, "cmdline")

    run(scenario())


def test_bytes_of_every_kind_come_up_as_samples() -> None:
    """What a hostile server says must not keep the engine from encoding it."""
    hostile = [
        CHUNKED + chunk(event("\ud800")) + LAST_CHUNK,
        CHUNKED + chunk(b"data: \xff\xfe\n\n") + LAST_CHUNK,
        CHUNKED + chunk(event("\x00\x1b[31m", "\x07")) + LAST_CHUNK,
        b"HTTP/1.1 500 \xff\xfe\r\nX-Request-Id: \xff\xfe\r\nContent-Length: 2\r\n\r\n\xff\xfe",
        reply(429, b'{"error": {"message": "\\ud800", "code": 99999999999999999999999}}', Retry_After="1e999"),
        reply(429, {"error": {"message": "try again in 99999999999h"}}, Retry_After="999999999999"),
        reply(400, b"[" * 100_000),
        CHUNKED + chunk(b"data: " + b"[" * 100_000 + b"\n\n") + LAST_CHUNK,
        CHUNKED
        + chunk(sse({"choices": [], "usage": {"prompt_tokens": 2**70, "completion_tokens": -1}}))
        + chunk(event("a", "stop"))
        + LAST_CHUNK,
        b"HTTP/1.1 99999 X\r\n\r\n",
        b"\x00" * 100,
    ]

    async def script(call: Call) -> None:
        await call.send(hostile[call.number])
        await call.hang_up()

    async def scenario() -> None:
        async with serving(script) as server, engine() as (_, link, _hello):
            limits = timeouts(first_output=2_000, idle=2_000)
            samples, _final = await link.step(job(endpoint(server.url), timeouts=limits), [0], requests=len(hostile))
            assert len(samples) == len(hostile)
            assert {sample.outcome for sample in samples} <= {
                *("ok", "malformed", "rate_limited", "http_error", "invalid_request", "truncated", "connect_error")
            }

    run(scenario())


def test_tls_in_the_process(certificates: tuple[Certificate, Certificate]) -> None:
    ours, _ = certificates

    async def scenario() -> None:
        async with serving(answer_well, ours.server_side()) as server, engine() as (_, link, _hello):
            samples, _final = await link.step(job(endpoint(server.url, ca_file=str(ours.path))), [0, 1], requests=5)
        assert [sample.outcome for sample in samples] == ["ok"] * 5

    run(scenario())


def test_the_zero_of_the_clock_is_the_masters() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, engine() as (_, link, _hello):
            what = job(endpoint(server.url), origin_ns=raw_ns() - 3600 * S)
            samples, _final = await link.step(what, [0], requests=1)
        assert 3600 * S <= samples[0].due_ns < 3700 * S

    run(scenario())


def test_a_job_is_answered_with_what_it_was_made_of() -> None:
    async def scenario() -> None:
        async with engine() as (_, link, _hello):
            what = job(endpoint("http://127.0.0.1:9/v1"), prompts=prompts(3), scenario_sha256="ab" * 32)
            link.tell(what)
            assert await link.expect(Accepted) == Accepted("ab" * 32, prompts_sha256(prompts(3)))
            assert prompts_sha256(prompts(3)) != prompts_sha256(prompts(4))

    run(scenario())


def test_a_ping_is_answered_with_the_engines_clock() -> None:
    async def scenario() -> None:
        async with engine() as (_, link, _hello):
            before = raw_ns()
            link.tell(Ping(12345))
            pong = await link.expect(Pong)
            assert pong.sent_ns == 12345
            assert before <= pong.at_ns <= raw_ns()

    run(scenario())


def test_with_a_broken_hook_the_engine_says_so_and_measures_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, so that the hook can be broken."""
    real = StampedHandler.data_received

    def lose_a_stamp(handler: StampedHandler, data: bytes) -> None:
        reads = handler.reads
        real(handler, data)
        if reads is not None and reads.at_ns:
            reads.at_ns.pop()

    monkeypatch.setattr(StampedHandler, "data_received", lose_a_stamp)

    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        async with serving(answer_well) as server:
            serving_engine = asyncio.create_task(serve(theirs))
            link: Link = await linked(ours)
            hello = await link.expect(Hello)
            assert hello.precision == "reduced"
            assert "stamps" in hello.why
            samples, _final = await link.step(job(endpoint(server.url)), [0, 1], requests=7)
            assert [(sample.outcome, sample.chunks) for sample in samples] == [("ok", 3)] * 7
            assert all(sample.first_token_ns is not None for sample in samples)
            link.tell(Bye())
            await serving_engine
            await link.close()

    run(scenario())


def spools(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("acknowledged", [True, False])
def test_the_spool_is_deleted_once_everything_in_it_was_committed(acknowledged: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            serving(answer_well) as server,
            engine({"LATBENCH_SPOOL": str(tmp_path)}) as (process, link, _hello),
        ):
            await link.start(job(endpoint(server.url)), closed(2, 9), [0, 1])
            link.tell(go())
            await link.final(acknowledge=acknowledged)
            (path,) = spools(tmp_path)
            assert path.parent == tmp_path / "run-1"
            link.tell(Bye())
            assert await ended(process) == 0
        if acknowledged:
            assert spools(tmp_path) == []
            assert not path.parent.exists()
        else:
            header, samples = read_spool(path)
            assert (header.run_id, header.worker) == ("run-1", "w")
            assert Counter(sample.outcome for sample in samples) == {"lost": 9, "ok": 9}

    run(scenario())


def test_one_batch_that_was_not_committed_keeps_the_spool(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            serving(answer_well) as server,
            engine({"LATBENCH_SPOOL": str(tmp_path)}) as (process, link, _hello),
        ):
            await link.start(job(endpoint(server.url)), closed(1, 3), [0])
            link.tell(go())
            _samples, final = await link.final(acknowledge=False)
            link.tell(*(Ack(number) for number in range(2, final.number + 1)), Bye())
            assert await ended(process) == 0
        assert len(spools(tmp_path)) == 1

    run(scenario())


def test_the_spool_outlives_a_kill(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(held) as server, engine({"LATBENCH_SPOOL": str(tmp_path)}) as (process, link, _hello):
            await link.start(job(endpoint(server.url)), closed(3, 9), [0, 1, 2])
            link.tell(go())
            await until(lambda: len(server.calls) == 3)
            process.send_signal(signal.SIGKILL)
            await ended(process)
        (path,) = spools(tmp_path)
        assert [(sample.outcome, sample.seq) for sample in read_spool(path)[1]] == [("lost", n) for n in range(3)]

    run(scenario())


def test_another_run_on_the_same_engine(tmp_path: Path) -> None:
    """Locust's web UI can start several; the spool of the first is gone when the next begins."""

    async def scenario() -> None:
        async with serving(answer_well) as server, engine({"LATBENCH_SPOOL": str(tmp_path)}) as (_, link, _hello):
            for name in ("run-1", "run-2"):
                samples, final = await link.step(job(endpoint(server.url), run_id=name), [0, 1], requests=5)
                assert {sample.outcome for sample in samples} == {"ok"}
                assert final.stopped == {}
                assert [path.parent.name for path in spools(tmp_path)] == [name]

    run(scenario())


def test_shards_that_come_with_the_order_to_go_are_taken_over() -> None:
    """All in one read: the step has not begun to run when the shards come."""

    async def scenario() -> None:
        async with serving(answer_well) as server, engine() as (_, link, _hello):
            load = Step(Constant(200.0), 100)
            link.tell(job(endpoint(server.url)), Prepare(0, load, shards=list(range(32))))
            await link.expect(Accepted)
            await link.expect(Prepared)
            link.tell(go(start_ns=0), Shards(list(range(64)), 0, None, 1))
            samples, final = await link.final()
        assert sorted(sample.seq for sample in samples) == list(range(100))
        assert final.version == 1

    run(scenario())


def test_the_limit_of_open_files_is_raised() -> None:
    async def scenario() -> None:
        async with engine() as (process, _link, _hello):
            (line,) = (
                one for one in of_process(process.pid, "limits").splitlines() if one.startswith("Max open files")
            )
            soft, hard = line.split()[3:5]
            assert soft == hard

    run(scenario())


def test_reports_of_a_step_end_with_one_final_batch() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, engine() as (_, link, _hello):
            await link.step(job(endpoint(server.url)), [0], requests=2)
            link.tell(Bye())
            rest = []
            while (report := await link.next()) is not None:
                rest.append(report)
        assert not any(isinstance(report, Batch) for report in rest)

    run(scenario())

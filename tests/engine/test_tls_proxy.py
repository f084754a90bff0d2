"""Certificates are verified, private authorities are taken from `ca_file`, proxies only where the scenario says so."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest
from engine_kit import Make, endpoint, job, lab, run, step
from servers import Call, Certificate, answer_well, serving

from latbench.engine.stamped import StampedTransport

Certificates = tuple[Certificate, Certificate]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine's own settings do not matter here."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return


def test_a_certificate_of_our_own_authority(certificates: Certificates, make: Make) -> None:
    ours, _ = certificates

    async def scenario() -> None:
        async with serving(answer_well, ours.server_side()) as server:
            to = endpoint(server.url, ca_file=str(ours.path))
            async with lab(job(to), make) as found:
                assert await found.open([0, 1]) == {}
                ran = await found.step([0, 1], requests=6)
        assert ran.outcomes() == {"ok": 6}
        for sample in ran.samples:
            at = (sample.due_ns, sample.sent_ns, sample.connected_ns, sample.headers_ns, sample.first_token_ns)
            assert list(at) == sorted(at)  # type: ignore[type-var]

    run(scenario())


@pytest.mark.parametrize("trusted", ["nobody", "other"])
def test_a_certificate_that_nobody_vouches_for(trusted: str, certificates: Certificates, make: Make) -> None:
    ours, other = certificates

    async def scenario() -> None:
        async with serving(answer_well, ours.server_side()) as server:
            to = endpoint(server.url, ca_file=str(other.path) if trusted == "other" else None)
            async with lab(job(to), make) as found:
                if make is StampedTransport:
                    assert "certificate" in (await found.open([0]))["e"].lower()
                ran = await found.step([0], requests=2)
            assert server.calls == []
        assert ran.outcomes() == {"connect_error": 2}
        assert all("certificate" in (sample.error_message or "").lower() for sample in ran.samples)

    run(scenario())


def test_a_certificate_for_another_host(certificates: Certificates, make: Make) -> None:
    ours, _ = certificates

    async def scenario() -> None:
        async with serving(answer_well, ours.server_side()) as server:
            to = endpoint(server.url.replace("127.0.0.1", "localhost"), ca_file=str(ours.path))
            ran = await step(job(to), make=make)
            assert (ran.one.outcome, server.calls) == ("connect_error", [])

    run(scenario())


def test_through_a_proxy(make: Make) -> None:
    """The host does not exist: only a proxy can have answered."""

    async def scenario() -> None:
        async with serving(answer_well) as proxy:
            to = endpoint("http://model.invalid:8080/v1", proxy=proxy.url.removesuffix("/v1"))
            async with lab(job(to), make) as found:
                assert await found.open([0]) == {}
                ran = await found.step([0], requests=3)
            assert ran.outcomes() == {"ok": 3}
            for call in proxy.calls:
                assert call.line == "POST http://model.invalid:8080/v1/chat/completions HTTP/1.1"
                assert call.header("host") == "model.invalid:8080"

    run(scenario())


async def tunnel(call: Call) -> None:
    """What a proxy does for CONNECT, and nothing else."""
    method, where, _ = call.line.split()
    assert method == "CONNECT"
    host, port = where.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    call.writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def pour(source: asyncio.StreamReader, into: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 16):
                into.write(data)
                await into.drain()
        into.close()

    await asyncio.gather(pour(call.reader, writer), pour(reader, call.writer))


def test_tls_through_a_tunnel(certificates: Certificates, make: Make) -> None:
    ours, _ = certificates

    async def scenario() -> None:
        async with serving(answer_well, ours.server_side()) as server, serving(tunnel) as proxy:
            to = endpoint(server.url, ca_file=str(ours.path), proxy=proxy.url.removesuffix("/v1"))
            ran = await step(job(to), requests=3, make=make)
            assert ran.outcomes() == {"ok": 3}
            assert len(server.calls) == 3
            assert server.calls[0].line == "POST /v1/chat/completions HTTP/1.1"
            assert server.calls[0].header("host") == f"127.0.0.1:{server.port}"
            assert len(proxy.calls) == 1

    run(scenario())


@pytest.mark.parametrize("asked", [True, False])
def test_the_proxy_of_the_environment_only_where_it_is_asked_for(
    asked: bool, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, serving(answer_well) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
            monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
            ran = await step(job(endpoint(server.url, proxy="env" if asked else None)), make=make)
            assert ran.outcomes() == {"ok": 1}
            assert (len(proxy.calls), len(server.calls)) == ((1, 0) if asked else (0, 1))

    run(scenario())


def test_the_environment_may_exempt_a_host(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server, serving(answer_well) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            await step(job(endpoint(server.url, proxy="env")), make=make)
            assert (len(proxy.calls), len(server.calls)) == (0, 1)

    run(scenario())


def test_a_proxy_that_wants_a_password_gets_it_and_the_endpoint_does_not(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with serving(answer_well) as proxy:
            with_password = proxy.url.removesuffix("/v1").replace("http://", "http://someone:word@")
            monkeypatch.setenv("http_proxy", with_password)
            monkeypatch.setenv("HTTP_PROXY", with_password)
            ran = await step(job(endpoint("http://model.invalid:8080/v1", proxy="env")), make=make)
            assert ran.outcomes() == {"ok": 1}
            (call,) = proxy.calls
            assert call.header("proxy-authorization") == "Basic c29tZW9uZTp3b3Jk"
            assert "someone" not in call.line

    run(scenario())


def test_env_without_a_proxy_in_it_goes_straight(make: Make) -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server:
            ran = await step(job(endpoint(server.url, proxy="env")), make=make)
            assert ran.outcomes() == {"ok": 1}

    run(scenario())

"""Remote write and the Pushgateway: by the bytes, and by what the real servers make of them."""

import math
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from export_kit import needs_prometheus, prometheus
from harness import Cli, Served, free_port, one_off, scripted, wait_until
from hypothesis import given
from hypothesis import strategies as st

from latbench.export.push import Pusher, PushFailed, Pushgateway, RemoteWrite
from latbench.export.remote_write import _spans, native, snappy
from latbench.metrics import series
from latbench.metrics.distribution import Distribution
from latbench.metrics.series import Snapshot
from latbench.model.errors import UserError

LABELS = ("chat", "", "p", "e", "m", "review")


def told(values: list[int]) -> Snapshot:
    found, ttft = Snapshot(), Distribution(series.LATENCY)
    ttft.record(values)
    found.set(series.TTFT, LABELS, ttft)
    found.set(series.STEP, ("chat", ""), 2)
    return found


# --- the bytes --------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200_000))
def test_snappy_says_what_was_put_in(data: bytes) -> None:
    packed = snappy(data)
    length, at, shift = 0, 0, 0
    while True:
        length |= (packed[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if packed[at - 1] < 0x80:
            break
    found = b""
    while at < len(packed):
        assert packed[at] == 61 << 2
        (size,) = struct.unpack_from("<H", packed, at + 1)
        found += packed[at + 3 : at + 4 + size]
        at += 4 + size
    assert length == len(data)
    assert found == data


@given(st.sets(st.integers(-60, 60)))
def test_spans_name_every_bucket(places: set[int]) -> None:
    found, at = [], 0
    for offset, length in _spans(sorted(places)):
        at += offset
        found += range(at, at + length)
        at += length
    assert found == sorted(places)


def test_a_native_histogram_of_nothing() -> None:
    assert native(Distribution(series.LATENCY), 1)


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_refusal_is_told_in_words_that_can_be_printed() -> None:
    with scripted(400, "out of order\x1b[31m" + "x" * 1000) as server:
        target = RemoteWrite(server.url)
        with pytest.raises(PushFailed, match="HTTP 400 out of order") as caught:
            target.send(told([1]))
        assert "\x1b" not in str(caught.value)
        assert len(str(caught.value)) < 250
        with pytest.raises(UserError, match="is it up, and does it take pushes"):
            Pusher([target], lambda: told([1]), None).try_all()


def test_a_redirect_is_not_followed() -> None:
    with scripted(307, "elsewhere") as server, pytest.raises(PushFailed, match="HTTP 307"):
        RemoteWrite(server.url).send(told([1]))


def test_what_fails_later_is_said_once() -> None:
    said: list[str] = []
    pusher = Pusher([RemoteWrite(f"http://127.0.0.1:{free_port()}/write")], lambda: told([1]), said.append)
    pusher.finish()
    pusher.finish()
    assert len(said) == 1
    assert "the run is not affected" in said[0]


# --- the real servers -------------------------------------------------------------------------------------------------


@needs_prometheus
@pytest.mark.long
def test_prometheus_reads_native_histograms_from_us(tmp_path: Path) -> None:
    values = np.random.default_rng(1).lognormal(math.log(0.13), 0.6, 5000)
    with prometheus(tmp_path) as server:
        target = RemoteWrite(f"{server.url}/api/v1/write")
        target.send(told([int(value * 1e9) for value in values] + [0, 0]))
        for q in (0.5, 0.9, 0.99):
            found = server.value(f"histogram_quantile({q}, latbench_ttft_seconds)")
            assert found == pytest.approx(float(np.quantile(values, q)), rel=0.05)
            found = server.value(f"histogram_quantile({q}, latbench_ttft_seconds_bucket)")
            assert found == pytest.approx(float(np.quantile(values, q)), rel=0.3)
        assert server.value("histogram_count(latbench_ttft_seconds)") == 5002
        assert server.value("latbench_ttft_seconds_count") == 5002
        assert server.value('latbench_run_step{job="latbench"}') == 2


@needs_prometheus
@pytest.mark.long
def test_a_run_writes_to_prometheus(cli: Cli, endpoint: Served, tmp_path: Path) -> None:
    cli.prompts()
    with prometheus(tmp_path) as server:
        done = cli.run(*one_off(endpoint.url, 30, 3, "--remote-write", f"{server.url}/api/v1/write"))
        assert done.code == 0, done.err
        assert server.value('sum(latbench_requests_total{outcome="ok"})') == 30
        p50 = server.value("histogram_quantile(0.5, sum(latbench_ttft_seconds))")
        raw = done.summary["endpoints"]["m"]["metrics"]["ttft_ms"]["raw"]["p50"]
        assert p50 == pytest.approx(raw / 1000, rel=0.1)


@contextmanager
def pushgateway(folder: Path) -> Iterator[str]:
    port = free_port()
    command = ["prometheus-pushgateway", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    with (folder / "gateway.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@needs_prometheus
@pytest.mark.long
@pytest.mark.skipif(shutil.which("prometheus-pushgateway") is None, reason="needs Debian's prometheus-pushgateway")
def test_a_run_pushes_to_the_gateway_and_prometheus_scrapes_it(cli: Cli, endpoint: Served, tmp_path: Path) -> None:
    cli.prompts()
    with pushgateway(tmp_path) as url, prometheus(tmp_path / "p", [int(url.rsplit(":", 1)[1])]) as server:
        wait_until(lambda: _up(url))
        done = cli.run(*one_off(endpoint.url, 30, 3, "--pushgateway", url))
        assert done.code == 0, done.err
        assert wait_until(lambda: server.value('sum(latbench_requests_total{outcome="ok"})')) == 30


def _up(url: str) -> bool:
    try:
        Pushgateway(url).send(told([1]))
    except PushFailed:
        return False
    return True

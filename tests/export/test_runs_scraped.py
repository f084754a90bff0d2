"""A run is scraped at every moment of its life, and by any number of workers tells the same."""

import os
import re
import signal
import time
from urllib.error import URLError

import pytest
from export_kit import inventive, scrape
from harness import Cli, Served, free_port, one_off, simulated, wait_until
from prometheus_client.parser import text_string_to_metric_families

from latbench.sim.options import Options

pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]

SLOW = Options(ttft_ns=3_000_000_000, itl_ns=100_000_000, slots=64, slowdown=0.0)
WITHIN_S = 1.0


def values(text: str, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """The values of a series by its labels."""
    return {
        tuple(sorted(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name == name
    }


def total(text: str, name: str) -> float:
    return sum(values(text, name).values())


class Asked:
    """Scrapes one after the other, and how long the slowest of them took."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.slowest_s = 0.0
        self.number = 0

    def __call__(self) -> str:
        """What was said; nothing before anybody listens or after the end."""
        began = time.monotonic()
        try:
            text = scrape(self.port)
        except (URLError, ConnectionError):
            return ""
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        self.number += 1
        return text


def test_start_run_drain_and_end_are_scraped(cli: Cli) -> None:
    cli.prompts()
    ask = Asked(free_port())
    with simulated(SLOW) as served:
        flags = ("--metrics-addr", str(ask.port), "--metrics-keep", "60s")
        command = cli.start(*one_off(served.url, 1000, 4, *flags))
        text = wait_until(lambda: ask())
        assert total(text, "latbench_run_info") == 1  # long before the first request
        wait_until(lambda: total(ask(), "latbench_requests_in_flight") == 4)
        command.signal(signal.SIGTERM)  # drains: answers take seconds yet
        wait_until(lambda: "are awaited" in command.err.read_text())
        assert total(ask(), "latbench_run_running") == 1
        assert command.wait().code == 130  # whoever interrupts a run does not wait for a scrape
    assert ask.number > 3
    assert ask.slowest_s < WITHIN_S * _busy()


def test_the_last_values_stay_for_the_stated_time_or_until_somebody_has_had_enough(cli: Cli, endpoint: Served) -> None:
    cli.prompts()
    ask = Asked(free_port())
    command = cli.start(*one_off(endpoint.url, 40, 4, "--metrics-addr", str(ask.port), "--metrics-keep", "10m"))
    wait_until(lambda: "latbench_run_ended_timestamp_seconds" in ask())
    text = ask()
    assert total(text, "latbench_run_running") == 0
    assert total(text, "latbench_requests_in_flight") == 0
    assert total(text, "latbench_requests_total") == 40
    wait_until(lambda: "the last values stay" in command.err.read_text())
    assert command.out.read_text().rstrip().endswith("}")  # the result does not wait
    command.signal(signal.SIGINT)
    done = command.wait()
    assert done.code == 0
    assert done.summary["endpoints"]["m"]["outcomes"]["ok"] == 40


def test_an_engine_that_dies_takes_no_scrape_with_it(cli: Cli) -> None:
    cli.prompts()
    ask = Asked(free_port())
    with simulated(SLOW) as served:
        flags = ("--metrics-addr", str(ask.port), "--metrics-keep", "60s", "--workers", "2")
        command = cli.start(*one_off(served.url, 1000, 4, *flags))
        wait_until(lambda: total(ask(), "latbench_requests_in_flight") == 4)
        engine = wait_until(lambda: next((pid for pid in cli.family() if _is_engine(pid)), None))
        os.kill(engine, signal.SIGKILL)
        wait_until(lambda: total(ask(), "latbench_validity_verdict") == 2)
        command.signal(signal.SIGTERM)
        command.signal(signal.SIGTERM)
        command.wait()
    assert ask.slowest_s < WITHIN_S * _busy()


@pytest.mark.parametrize("workers", ["1", "2", "3"])
def test_workers_add_up(cli: Cli, endpoint: Served, workers: str) -> None:
    cli.prompts()
    ask = Asked(free_port())
    flags = ("--metrics-addr", str(ask.port), "--metrics-keep", "10m", "--workers", workers)
    command = cli.start(*one_off(endpoint.url, 60, 6, *flags))
    wait_until(lambda: "latbench_run_ended_timestamp_seconds" in ask())
    wait_until(lambda: "the last values stay" in command.err.read_text())
    text = ask()
    command.signal(signal.SIGTERM)
    assert command.wait().code == 0
    assert total(text, "latbench_ttft_seconds_count") == total(text, "latbench_requests_total") == 60
    assert total(text, "latbench_planned_requests_total") == 60
    assert total(text, "latbench_workers") == int(workers)


def test_ten_thousand_names_in_one_run_make_no_series(cli: Cli) -> None:
    cli.prompts()
    ask = Asked(free_port())
    seen: list[int] = []
    with inventive(failing=5) as server:
        flags = ("--metrics-addr", str(ask.port), "--metrics-keep", "10m", "--no-abort")
        command = cli.start(*one_off(server.url, 10_000, 16, *flags))

        def over() -> bool:
            text = ask()
            if total(text, "latbench_requests_total") > 500:
                seen.append(len(text.splitlines()))
            return "latbench_run_ended_timestamp_seconds" in text

        wait_until(over, 100)
        wait_until(lambda: "the last values stay" in command.err.read_text())
        text = ask()
        command.signal(signal.SIGTERM)
        done = command.wait()
    assert server.asked >= 10_000
    assert sum(done.summary["endpoints"]["m"]["outcomes"].values()) == 10_000
    assert seen[-1] - seen[0] < 60  # what the end adds: the verdict, when it was
    assert not re.search(r"model-\d|fp\d|kind_\d|thing\d|stop\d", text)
    assert ask.slowest_s < WITHIN_S * _busy()


def _is_engine(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"latbench.engine.process" in file.read()
    except OSError:
        return False


def _busy() -> float:
    """By how much more there is to do on this machine than it can: nobody answers in time there."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))

"""The command line: declared once, the same on both sides of the exec."""

import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from latbench.sim.options import PARAMETERS, Options, arguments, command, for_request
from latbench.sim.trials import MODELS


def _parsed(line: list[str]) -> Options:
    parser = click.Command("sim", params=list(PARAMETERS), callback=lambda **values: Options(**values))
    options = parser.main(line, standalone_mode=False)
    assert isinstance(options, Options)
    return options


def test_no_options_are_the_defaults() -> None:
    assert _parsed([]) == Options()


@given(
    st.builds(
        Options,
        port=st.integers(0, 65535),
        ttft_ns=st.integers(0, 10**12),
        prefill_rate=st.floats(1e-3, 1e12),
        itl_ns=st.integers(0, 10**12),
        jitter=st.floats(0, 3),
        slots=st.integers(1, 10**6),
        slowdown=st.floats(0, 100),
        seed=st.integers(0, 2**80),
        model=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        strict_model=st.booleans(),
        tokens=st.integers(1, 10**6),
        early_stop=st.floats(0, 1),
        reasoning_tokens=st.integers(0, 10**6),
        p_tool=st.floats(0, 1),
        tool_calls=st.integers(1, 64),
        tool_rounds=st.integers(0, 9),
        rpm=st.none() | st.integers(1, 10**9),
        burst=st.none() | st.integers(1, 10**9),
        tpm=st.none() | st.integers(1, 10**9),
        max_concurrent=st.none() | st.integers(1, 10**6),
        limit_window=st.sampled_from(["bucket", "fixed"]),
        p_reset=st.floats(0, 1),
        p_cut=st.floats(0, 1),
        p_stall=st.floats(0, 1),
        p_garbage=st.floats(0, 1),
        p_error_event=st.floats(0, 1),
        p_500=st.floats(0, 1),
        p_503=st.floats(0, 1),
        p_529=st.floats(0, 1),
        slow_bytes=st.none() | st.integers(1, 10**9),
        cache_ttl_ns=st.integers(0, 10**12),
        needle=st.none() | st.just("answers.jsonl"),
        needle_model=st.sampled_from(MODELS),
        needle_accuracy=st.just("0.9,40-60%@32000=0.5"),
        needle_blind=st.just("30.5-70%"),
        needle_keep=st.integers(1, 10**6),
        needle_silent=st.booleans(),
        profile=st.none() | st.just("09:00-18:00=1.8,22:00-06:00=0.5"),
        clock=st.none() | st.just("2026-01-05T08:59:30Z"),
        clock_rate=st.floats(0, 1e6),
        api_key_env=st.none() | st.just("NAME"),
        with_parent=st.booleans(),
    )
)
def test_the_command_line_says_what_the_options_say(options: Options) -> None:
    assert _parsed(arguments(options)) == options


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [("200ms", 200_000_000), ("0.2s", 200_000_000), ("150us", 150_000), ("0ns", 0), ("1s", 10**9)],
)
def test_durations(text: str, expected_ns: int) -> None:
    assert _parsed([f"--ttft={text}"]) == replace(Options(), ttft_ns=expected_ns)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["--ttft=200"], "'200' is not a duration: write a number and ns, us, ms or s, as in 150ms"),
        (["--itl=-1ms"], "is not a duration"),
        (["--itl=2h"], "is not a duration"),
        (["--itl=3601s"], "longer than 3600s"),
        (["--jitter=nan"], "nan is not a finite number"),
        (["--prefill-rate=inf"], "inf is not a finite number"),
        (["--prefill-rate=0"], "range"),
        (["--slots=0"], "range"),
        (["--early-stop=1.5"], "range"),
        (["--ttff=1ms"], "--ttft"),
        (["--p-cut=nan"], "nan is not a finite number"),
        (["--p-cut=1.5"], "range"),
        (["--rpm=0"], "range"),
        (["--limit-window=minute"], "'bucket', 'fixed'"),
        (["--profile=9-18=2"], "'9-18=2' is not of the form 09:00-18:00=1.8"),
        (["--clock=noon"], "'noon' is not a time with its zone"),
        (["--cache-ttl=5m"], "is not a duration"),
        (["--needle-model=clever"], "'perfect', 'random', 'blind'"),
        (["--needle-accuracy=2"], "'2': an accuracy is from 0 to 1"),
        (["--needle-blind=40-60"], "'40-60' is not a part of the prompt, as in 40-60%"),
    ],
)
def test_mistakes_are_refused_before_anything_starts(line: list[str], says: str) -> None:
    def nothing(**_values: Any) -> None:
        raise AssertionError

    result = CliRunner().invoke(click.Command("sim", params=list(PARAMETERS), callback=nothing), line)
    assert result.exit_code == 2
    assert says in result.output


def test_headers_of_a_request_change_its_options() -> None:
    options = replace(Options(), rpm=3)
    assert for_request(options, {"content-type": "x", "x-simulated": "1"}) is options
    found = for_request(options, {"x-sim-ttft": "2s", "x-sim-p-500": "0.5", "x-sim-reasoning-tokens": "4"})
    assert found == replace(options, ttft_ns=2 * 10**9, p_500=0.5, reasoning_tokens=4)
    found = for_request(options, {"x-sim-needle-model": "blind", "x-sim-needle-silent": "true"})
    assert found == replace(options, needle_model="blind", needle_silent=True)


@pytest.mark.parametrize(
    ("header", "value", "says"),
    [
        ("x-sim-ttft", "2", "x-sim-ttft: '2' is not a duration"),
        ("x-sim-p-500", "nan", "not a finite number"),
        ("x-sim-tokens", "0", "range"),
        ("x-sim-rpm", "5", "x-sim-rpm is no option of one request: use ttft, "),
        ("x-sim-needle", "x.jsonl", "x-sim-needle is no option of one request"),
        ("x-sim-", "5", "no option of one request"),
    ],
)
def test_headers_that_are_refused(header: str, value: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        for_request(Options(), {header: value})


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_header_is_understood_or_refused(name: str, value: str) -> None:
    with suppress(ValueError):
        for_request(Options(), {f"x-sim-{name}": value, "x-sim-seed": value})


def test_the_command_runs_the_server_with_this_python() -> None:
    line = command(replace(Options(), slots=2))
    assert line[0] == sys.executable
    assert "latbench.sim.server" in line
    assert "--slots=2" in line


def test_the_verb_loads_no_server_and_the_server_nothing_it_must_not_share() -> None:
    verb = "import latbench.cli.sim, sys; print({'aiohttp', 'uvloop', 'asyncio'} & set(sys.modules))"
    server = (
        "import latbench.sim.server, sys;"
        "print(sorted(name for name in sys.modules if name.startswith('latbench.') and name[:12] != 'latbench.sim'))"
    )
    for code, expected in (
        (verb, "set()\n"),
        (server, "['latbench.model', 'latbench.model.errors', 'latbench.model.timer']\n"),
    ):
        found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
        assert found.stdout == expected

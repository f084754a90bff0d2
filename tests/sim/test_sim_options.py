"""The command line: declared once, the same on both sides of the exec."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from latbench.sim.options import PARAMETERS, Options, arguments, command


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
    ],
)
def test_mistakes_are_refused_before_anything_starts(line: list[str], says: str) -> None:
    def nothing(**_values: Any) -> None:
        raise AssertionError

    result = CliRunner().invoke(click.Command("sim", params=list(PARAMETERS), callback=nothing), line)
    assert result.exit_code == 2
    assert says in result.output


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

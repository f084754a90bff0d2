"""The options of the simulated endpoint, declared once: for `latbench sim`, for the server process, and for a program
that starts one (`command`). No server is imported here.
"""

import math
import re
import sys
from dataclasses import dataclass

import click

_UNITS_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_LONGEST_NS = 3600 * 1_000_000_000
_DURATION = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)(ns|us|ms|s)")

HELP = """Run the simulated endpoint by itself.

It speaks OpenAI chat completions, streamed and plain, and answers with made-up code on a schedule. When it listens it
prints one line with its base URL. GET /sim/stats has what really happened; POST /sim/reset forgets it.

With a = requests being answered, the medians are (ttft + prompt / prefill rate) and itl, each times
1 + slowdown * (a - 1). At most SLOTS requests are answered at a time; others wait in line.
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What the simulated endpoint is like. Times are nanoseconds, `prefill_rate` is tokens per second."""

    host: str = "127.0.0.1"
    port: int = 0
    ttft_ns: int = 200_000_000
    prefill_rate: float = 8000.0
    itl_ns: int = 15_000_000
    jitter: float = 0.2
    slots: int = 16
    slowdown: float = 0.02
    seed: int = 0
    model: str = "sim-coder"
    strict_model: bool = False
    tokens: int = 256
    early_stop: float = 0.0
    api_key_env: str | None = None
    with_parent: bool = False


def _duration(_context: click.Context, _parameter: click.Parameter, value: str) -> int:
    """`200ms` as nanoseconds. A bare number is refused."""
    match = _DURATION.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"{value[:40]!r} is not a duration: write a number and ns, us, ms or s, as in 150ms")
    duration_ns = round(float(match[1]) * _UNITS_NS[match[2]])
    if duration_ns > _LONGEST_NS:
        raise click.BadParameter(f"{value[:40]!r} is longer than 3600s")
    return duration_ns


def _finite(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    """Click's own ranges let `nan` through."""
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number")
    return value


def _shown(value_ns: int) -> str:
    return f"{value_ns / 1_000_000:g}ms"


_DEFAULT = Options()

PARAMETERS: tuple[click.Option, ...] = (
    click.Option(["--host"], default=_DEFAULT.host, show_default=True, help="Address to listen on."),
    click.Option(
        ["--port"], type=click.IntRange(0, 65535), default=_DEFAULT.port, show_default="a free one", help="Port."
    ),
    click.Option(
        ["--ttft", "ttft_ns"],
        metavar="DURATION",
        callback=_duration,
        default=_shown(_DEFAULT.ttft_ns),
        show_default=True,
        help="Median time to first token of an empty prompt.",
    ),
    click.Option(
        ["--prefill-rate"],
        type=click.FloatRange(min=0, min_open=True),
        callback=_finite,
        default=_DEFAULT.prefill_rate,
        show_default=True,
        help="Prompt tokens read per second, before the first token.",
    ),
    click.Option(
        ["--itl", "itl_ns"],
        metavar="DURATION",
        callback=_duration,
        default=_shown(_DEFAULT.itl_ns),
        show_default=True,
        help="Median gap between tokens.",
    ),
    click.Option(
        ["--jitter"],
        type=click.FloatRange(min=0, max=3),
        callback=_finite,
        default=_DEFAULT.jitter,
        show_default=True,
        help="Lognormal sigma of both; 0: none.",
    ),
    click.Option(
        ["--slots"],
        type=click.IntRange(1),
        default=_DEFAULT.slots,
        show_default=True,
        help="Requests answered at a time.",
    ),
    click.Option(
        ["--slowdown"],
        type=click.FloatRange(min=0, max=100),
        callback=_finite,
        default=_DEFAULT.slowdown,
        show_default=True,
        help="Share by which each further active request slows all.",
    ),
    click.Option(
        ["--seed"], type=click.IntRange(0), default=_DEFAULT.seed, show_default=True, help="Of noise, lengths and text."
    ),
    click.Option(["--model"], default=_DEFAULT.model, show_default=True, help="Name of the model it offers."),
    click.Option(
        ["--strict-model"], is_flag=True, help="Refuse any other model with 404; else every name is accepted."
    ),
    click.Option(
        ["--tokens"],
        type=click.IntRange(1),
        default=_DEFAULT.tokens,
        show_default=True,
        help="Length of an answer where the request sets no limit.",
    ),
    click.Option(
        ["--early-stop"],
        type=click.FloatRange(min=0, max=1),
        callback=_finite,
        default=_DEFAULT.early_stop,
        show_default=True,
        help="Answers end up to this share before their limit (uniform); not with ignore_eos.",
    ),
    click.Option(
        ["--api-key-env"], metavar="NAME", help="Environment variable with the key that requests must bear; else any."
    ),
    click.Option(["--with-parent"], is_flag=True, help="End when the process that started it ends."),
)


def arguments(options: Options) -> list[str]:
    """The command line that says the same as `options`."""
    line: list[str] = []
    for parameter in PARAMETERS:
        value = getattr(options, str(parameter.name))
        if parameter.is_flag:
            line += [parameter.opts[0]] if value else []
        elif value is not None:
            unit = "ns" if str(parameter.name).endswith("_ns") else ""
            line.append(f"{parameter.opts[0]}={value}{unit}")
    return line


def command(options: Options) -> list[str]:
    """What to execute for a simulated endpoint: it prints `latbench sim: <base URL>` once it listens."""
    # -P: a file in the current directory must not stand in for a package.
    return [sys.executable, "-P", "-m", "latbench.sim.server", *arguments(options)]

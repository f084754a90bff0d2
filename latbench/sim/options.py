"""The options of the simulated endpoint, declared once: for `latbench sim`, for the server process, and for a program
that starts one (`command`). No server is imported here.
"""

import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import click

from latbench.sim import profile, trials

_UNITS_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_LONGEST_NS = 3600 * 1_000_000_000
_DURATION = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)(ns|us|ms|s)")

HELP = """Run the simulated endpoint by itself.

It speaks the APIs of the providers, streamed and plain, and answers with made-up code on a schedule. When it listens it
prints one line with its base URL. GET /sim/stats has what really happened; POST /sim/reset forgets it.

With a = requests being answered, the medians are (ttft + prompt / prefill rate) and itl, each times
1 + slowdown * (a - 1). At most SLOTS requests are answered at a time; others wait in line.

Limits hold for each API key by itself, and are answered as the API that was asked does it. Of the faults, at most one
befalls a request, drawn from the seed and the request's number; /sim/stats counts each.

GET /sim/clock has the time of day by which --profile goes; POST {"now": "2026-01-05T08:59:30Z", "rate": 60} sets it.

Most options can be set for one request by a header: x-sim-ttft: 2s, x-sim-p-500: 1. Those that cannot are the ones of
the whole endpoint: its address, model, key, slots, limits, cache, answers, profile and clock.
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
    reasoning_tokens: int = 0
    p_tool: float = 0.0
    tool_calls: int = 1
    tool_rounds: int = 1
    rpm: int | None = None
    burst: int | None = None
    tpm: int | None = None
    max_concurrent: int | None = None
    limit_window: str = "bucket"
    p_reset: float = 0.0
    p_cut: float = 0.0
    p_stall: float = 0.0
    p_garbage: float = 0.0
    p_error_event: float = 0.0
    p_500: float = 0.0
    p_503: float = 0.0
    p_529: float = 0.0
    slow_bytes: int | None = None
    cache_ttl_ns: int = 0
    needle: str | None = None
    needle_model: str = trials.PERFECT
    needle_accuracy: str = "1"
    needle_blind: str = "40-60%"
    needle_keep: int = 8000
    needle_silent: bool = False
    profile: str | None = None
    clock: str | None = None
    clock_rate: float = 1.0
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


def _readable(read: Callable[[str], object]) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """A text that `read` understands, kept as it is written. `read` raises ValueError with what is wrong."""

    def check(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
        if value is not None:
            try:
                read(value)
            except ValueError as error:
                raise click.BadParameter(str(error)) from None
        return value

    return check


def _share(name: str, meaning: str) -> click.Option:
    """An option that is a probability."""
    return click.Option(
        [name],
        type=click.FloatRange(min=0, max=1),
        callback=_finite,
        default=0.0,
        show_default=True,
        help=meaning,
    )


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
        ["--reasoning-tokens"],
        type=click.IntRange(0),
        default=_DEFAULT.reasoning_tokens,
        show_default=True,
        help="Tokens of reasoning before the answer, within its limit, unless the request does without.",
    ),
    _share(
        "--p-tool", "Share of requests with tools that are answered by a tool call; all where the request forces it."
    ),
    click.Option(
        ["--tool-calls"],
        type=click.IntRange(1, 64),
        default=_DEFAULT.tool_calls,
        show_default=True,
        help="Tool calls in such an answer, if the request allows several.",
    ),
    click.Option(
        ["--tool-rounds"],
        type=click.IntRange(0),
        default=_DEFAULT.tool_rounds,
        show_default=True,
        help="After this many rounds of calls a conversation gets text, unless a call is forced.",
    ),
    click.Option(["--rpm"], type=click.IntRange(1), help="Requests per minute of an API key; more get 429."),
    click.Option(
        ["--burst"], type=click.IntRange(1), help="Requests that a bucket of --rpm holds; else a minute's worth."
    ),
    click.Option(
        ["--tpm"],
        type=click.IntRange(1),
        help="Tokens per minute of an API key: the prompt and the limit of the answer, taken up front.",
    ),
    click.Option(["--max-concurrent"], type=click.IntRange(1), help="Requests of an API key at a time."),
    click.Option(
        ["--limit-window"],
        type=click.Choice(["bucket", "fixed"]),
        default=_DEFAULT.limit_window,
        show_default=True,
        help="Whether limits fill up steadily or anew each minute, counted from a key's first request.",
    ),
    _share("--p-reset", "Share of answers that end in a connection reset, after some tokens."),
    _share("--p-cut", "Share that end in a closed connection, after some tokens."),
    _share("--p-stall", "Share that fall silent for ever, after some tokens."),
    _share("--p-garbage", "Share that end in bytes that cannot be decoded."),
    _share("--p-error-event", "Share that end in an error inside the stream."),
    _share("--p-500", "Share of requests that get 500."),
    _share("--p-503", "Share that get 503, overloaded."),
    _share("--p-529", "Share that get 529, overloaded."),
    click.Option(
        ["--slow-bytes"],
        type=click.IntRange(1),
        help="Bytes of an answer that leave per second, in small pieces; else all of an event at once.",
    ),
    click.Option(
        ["--cache-ttl", "cache_ttl_ns"],
        metavar="DURATION",
        callback=_duration,
        default=_shown(_DEFAULT.cache_ttl_ns),
        show_default=True,
        help="How long a prompt's beginning of 1024 tokens or more is cached after it was last seen; 0ms: never.",
    ),
    click.Option(
        ["--needle"],
        metavar="FILE",
        help="Answers to needle trials, as latbench needle writes them: JSON lines, looked up by a prompt's nonce.",
    ),
    click.Option(
        ["--needle-model"],
        type=click.Choice(trials.MODELS),
        default=_DEFAULT.needle_model,
        show_default=True,
        help="How: all right; any candidate at random; blind in one part; with the head of long prompts cut off; "
        "faster the deeper the needle, as a cached prefix makes it; right in the wrong format.",
    ),
    click.Option(
        ["--needle-accuracy"],
        metavar="TEXT",
        callback=_readable(trials.accuracies),
        default=_DEFAULT.needle_accuracy,
        show_default=True,
        help="Share of right answers to what was read (not random's), by depth and from a length on, as in "
        "0.95,40-60%=0.5,40-60%@32000=0.1; the last that fits.",
    ),
    click.Option(
        ["--needle-blind"],
        metavar="TEXT",
        callback=_readable(trials.part),
        default=_DEFAULT.needle_blind,
        show_default=True,
        help="The part of the prompt that the blind model does not read.",
    ),
    click.Option(
        ["--needle-keep"],
        type=click.IntRange(1),
        default=_DEFAULT.needle_keep,
        show_default=True,
        help="Tokens at the end of a prompt that head-truncated reads; its usage counts no more.",
    ),
    click.Option(
        ["--needle-silent"], is_flag=True, help="The usage says nothing of what was cut off or cached for a trial."
    ),
    click.Option(
        ["--profile"],
        metavar="TEXT",
        callback=_readable(profile.factors),
        help="Factors on all times by the time of day (UTC), as in 09:00-18:00=1.8,22:00-06:00=0.7; else 1.",
    ),
    click.Option(
        ["--clock"],
        metavar="TIME",
        callback=_readable(profile.moment),
        help="Time at the start, as in 2026-01-05T08:59:30Z; else the real one.",
    ),
    click.Option(
        ["--clock-rate"],
        type=click.FloatRange(min=0, max=1_000_000),
        callback=_finite,
        default=_DEFAULT.clock_rate,
        show_default=True,
        help="Seconds of that time which pass in a second.",
    ),
    click.Option(
        ["--api-key-env"], metavar="NAME", help="Environment variable with the key that requests must bear; else any."
    ),
    click.Option(["--with-parent"], is_flag=True, help="End when the process that started it ends."),
)


_HEADER = "x-sim-"
_OF_THE_ENDPOINT = {
    "host", "port", "slots", "model", "strict_model", "rpm", "burst", "tpm", "max_concurrent", "limit_window",
    "cache_ttl_ns", "needle", "profile", "clock", "clock_rate", "api_key_env", "with_parent",
}  # fmt: skip
_OF_ONE_REQUEST = {one.opts[0][2:]: one for one in PARAMETERS if one.name not in _OF_THE_ENDPOINT}
_NO_COMMAND = click.Context(click.Command("sim"))


def for_request(options: Options, headers: Mapping[str, str]) -> Options:
    """The options with those changed that the request's headers `x-sim-*` (lower case) set for it.

    Raises ValueError for one that is not there or is not understood.
    """
    changes: dict[str, Any] = {}
    for header, text in headers.items():
        if header.startswith(_HEADER):
            parameter = _OF_ONE_REQUEST.get(header.removeprefix(_HEADER))
            if parameter is None:
                raise ValueError(f"{header[:40]} is no option of one request: use {', '.join(_OF_ONE_REQUEST)}")
            try:
                value = parameter.process_value(_NO_COMMAND, text)
            except click.BadParameter as error:
                raise ValueError(f"{header}: {error.message}") from None
            changes[str(parameter.name)] = value
    return replace(options, **changes) if changes else options


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

"""The options that verbs share: whom to ask, how hard to push, what to keep. Values are in the scenario's grammar."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from latbench.providers.registry import APIS

Command = TypeVar("Command", bound=Callable[..., Any])


def _labels(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    return dict(map(_pair, values))


def _pair(written: str) -> tuple[str, str]:
    key, equals, text = written.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"{written!r} is not KEY=VALUE")
    return key, text


def pairs(_context: click.Context, _parameter: click.Parameter, value: str | None) -> dict[str, str]:
    """An option's `KEY=VALUE,KEY=VALUE` as a mapping; empty where it is not given."""
    return {} if value is None else dict(_pair(part.strip()) for part in value.split(","))


class _Expression(click.types.StringParamType):
    """A threshold. It holds blanks, so that in the environment several are separated by semicolons."""

    envvar_list_splitter = ";"


_ENDPOINT = (
    click.option("--url", help="Measure this base URL instead of the scenario's endpoints, as https://host/v1."),
    click.option("--model", help="The model to ask for."),
    click.option("--api", help=f"The API it speaks: {', '.join(APIS)}. With --url the default is openai-chat."),
    click.option("--api-key-env", metavar="NAME", help="The environment variable that holds the key."),
)
_LOAD = (
    click.option("--concurrency", type=click.IntRange(1), help="Requests under way at a time, for each endpoint."),
    click.option("--rate", help="Requests a second to each endpoint, as 4/s or 120/min, whatever is under way."),
    click.option("--requests", type=click.IntRange(1), help="How many requests to send, to each endpoint."),
    click.option("--duration", help="How long to measure, as 60s or 5m."),
    click.option("--max-tokens", help="Longest answer to ask for, in tokens."),
    click.option("--prompts", type=click.Path(path_type=Path), help="Prompts of your own: a folder or a JSONL file."),
    click.option(
        "--repeat", type=click.IntRange(1), help="Send each prompt so often: the spread is taken apart by it."
    ),
    click.option("--seed", type=int, help="Draws prompts and arrivals: the same seed sends the same ones."),
)


def load_options(command: Command) -> Command:
    """--concurrency to --seed, as they stand above: fields of `Flags` by name."""
    for option in reversed(_LOAD):
        command = option(command)
    return command


def endpoint_options(command: Command) -> Command:
    """--url to --api-key-env: fields of `Flags` by name."""
    for option in reversed(_ENDPOINT):
        command = option(command)
    return command


def keep_options(verb: str) -> Callable[[Command], Command]:
    """How a run is labelled, kept and judged: --window to --quiet. `verb` is in the names of environment variables."""
    options = (
        click.option("--window", metavar="NAME", help="Label the run with a time window, as peak."),
        click.option(
            *("--label", "labels"),
            metavar="KEY=VALUE",
            multiple=True,
            envvar=f"LATBENCH_{verb}_LABEL",
            callback=_labels,
            help="Label the run.",
        ),
        click.option(
            "--store", type=click.Path(path_type=Path), default="latbench.db", show_default=True, help="The store."
        ),
        click.option("--out", type=click.Path(path_type=Path), help="The run directory itself (absent or empty)."),
        click.option(
            *("--json", "as_json"),
            is_flag=True,
            envvar=f"LATBENCH_{verb}_JSON",
            help="Print summary.json and nothing else on standard output.",
        ),
        click.option(
            *("--threshold", "thresholds"),
            type=_Expression(),
            metavar="EXPR",
            multiple=True,
            envvar=f"LATBENCH_{verb}_THRESHOLD",
            help="What must hold, as 'ttft p95 < 800ms', beside the scenario's thresholds; may be repeated.",
        ),
        click.option(
            "--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write the thresholds as JUnit XML."
        ),
        click.option(
            "--no-abort", is_flag=True, help="Do not stop early: for a share of errors, or a threshold out of reach."
        ),
        click.option("--no-null-test", is_flag=True, help="Do not measure the client's own error before the run."),
        click.option("--quiet", is_flag=True, help="No progress and no notices."),
    )

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add

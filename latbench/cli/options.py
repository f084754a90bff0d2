"""The options that verbs share: how hard to push, and with what. Their values are in the grammar of the scenario."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

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

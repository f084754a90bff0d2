"""`latbench sim`: becomes the process of the simulated endpoint.

It executes that program in place of itself, because no module of the command line may load a server. A file of options
is read here: the program takes a command line only.
"""

import os
import sys
from pathlib import Path
from typing import Any

import click

from latbench.model.errors import UserError
from latbench.scenario.files import Document, located, read_yaml
from latbench.scenario.grammar import KeyPath, nearest
from latbench.sim.options import HELP, PARAMETERS, Options, command


def _from_file(context: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    """Takes the file's values as the defaults. Raises UserError with the line of each mistake."""
    if path is not None:
        context.default_map = {**(context.default_map or {}), **_values(context, read_yaml(path))}


def _values(context: click.Context, document: Document) -> dict[str, str]:
    """Parameter name -> text, as the command line would have it."""
    options = {parameter.opts[0][2:]: parameter for parameter in PARAMETERS}
    if not isinstance(document.data, dict):
        raise UserError(f"{document.where(())}: write options of latbench sim, as in ttft: 200ms")
    found: dict[str, str] = {}
    problems: list[tuple[KeyPath, str]] = []
    for name, value in document.data.items():
        option = options.get(name)
        if option is None:
            problems.append(((name,), f"not an option; {nearest(str(name), list(options))}"))
            continue
        text = str(value).lower() if isinstance(value, bool) else str(value)
        try:
            if value is None or isinstance(value, dict | list) or (isinstance(value, bool) and not option.is_flag):
                raise click.BadParameter("has to be one value, as on the command line")
            option.process_value(context, text)
        except click.BadParameter as error:
            problems.append(((name,), error.message))
        found[str(option.name)] = text
    if problems:
        raise UserError("\n".join(located(document, problems)))
    return found


def _become_server(**values: Any) -> None:  # noqa: ANN401  click hands over what PARAMETERS declares
    os.execv(sys.executable, command(Options(**values)))


_CONFIG = click.Option(
    ["--config"],
    metavar="FILE",
    type=click.Path(path_type=Path),
    callback=_from_file,
    is_eager=True,
    expose_value=False,
    help="YAML file with options by these names, as in ttft: 200ms; a flag or a variable beats it.",
)

sim = click.Command("sim", params=[_CONFIG, *PARAMETERS], callback=_become_server, help=HELP)

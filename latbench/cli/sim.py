"""`latbench sim`: becomes the process of the simulated endpoint.

It executes that program in place of itself, because no module of the command line may load a server.
"""

import os
import sys
from typing import Any

import click

from latbench.sim.options import HELP, PARAMETERS, Options, command


def _become_server(**values: Any) -> None:  # noqa: ANN401  click hands over what PARAMETERS declares
    os.execv(sys.executable, command(Options(**values)))


sim = click.Command("sim", params=list(PARAMETERS), callback=_become_server, help=HELP)

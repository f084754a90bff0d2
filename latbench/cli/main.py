"""The `latbench` command. A verb's module is imported when the verb is chosen, so that `--help` stays quick."""

import errno
import os
import sys
from importlib import import_module
from io import TextIOWrapper

import click

from latbench import __version__
from latbench.cli.imports import importing, spare_children_and_us
from latbench.model.errors import ExitCode, UserError
from latbench.store.errors import StoreError

_VERBS = {
    "compare": "Hold two runs, or two windows, against each other: ratio, interval, verdict.",
    "export": "Write runs of the store in the formats of other programs.",
    "needle": "Positional retrieval in long code: accuracy by depth beside latency.",
    "run": "Measure: live progress, a summary, the store and a run directory.",
    "plan": "Say what a run would send and cost; send nothing.",
    "report": "Print the report of a run again.",
    "runs": "List, show, delete and recover the runs in the store.",
    "serve-metrics": "Serve Prometheus metrics of the runs in the store.",
    "sim": "Run the simulated endpoint by itself.",
    "worker": "Join a master on another machine.",
}


class _Verbs(click.Group):
    """A group that knows its verbs by name and imports one when it is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        name = cmd_name.replace("-", "_")
        with importing():
            command: click.Command = getattr(import_module(f"latbench.cli.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_VERBS.items()))


@click.group(cls=_Verbs, context_settings={"auto_envvar_prefix": "LATBENCH", "help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="latbench")
def cli() -> None:
    """Load and latency benchmark for LLM endpoints."""


def main() -> None:
    """The console script. A user's mistake is one line and exit code 2, never a traceback."""
    if sys.stdout is None:  # closed by whoever started us
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  for as long as we live
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without dashes gets question marks
    spare_children_and_us()
    try:
        sys.exit(cli(prog_name="latbench", standalone_mode=False))
    except click.ClickException as fault:
        fault.show()
        sys.exit(fault.exit_code)
    except (UserError, StoreError) as fault:
        click.echo(f"latbench: {fault}", err=True)
        sys.exit(fault.exit_code)
    except OSError as fault:
        if fault.errno != errno.ENOSPC:
            raise
        click.echo("latbench: no space left where standard output goes; `latbench report` prints it again", err=True)
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  nothing more can be flushed
        sys.exit(ExitCode.FAILED)
    except (KeyboardInterrupt, click.Abort):
        click.echo("latbench: interrupted before anything was sent", err=True)
        sys.exit(ExitCode.INTERRUPTED)

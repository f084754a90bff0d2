"""`latbench worker`: joins a master, does its part of one run, and ends."""

import sys

import click

from latbench.cluster.children import start_engine
from latbench.model.errors import UserError
from latbench.model.lifeline import die_with_parent


@click.command()
@click.option("--master", metavar="HOST:PORT", required=True, help="Where `latbench run --listen` waits.")
@click.option("--parent", type=int, hidden=True, help="End with this process.")
def worker(master: str, parent: int | None) -> None:
    """Join the master at HOST:PORT and send what it plans. Keys come from this machine's environment."""
    host, _, port = master.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--master {master}: write HOST:PORT")
    if parent is not None:
        die_with_parent(parent)
    engine = start_engine()
    # Locust takes a second to import and patches the standard library: only now, while the engine starts.
    from latbench.cluster.locust_join import join

    if parent is None:
        click.echo(f"latbench worker: joining {master}", err=True)
    code = join(host.strip("[]"), int(port), engine)
    if parent is None:
        click.echo(f"latbench worker: {'the master fell silent' if code else 'the run is over'}", err=True)
    sys.exit(code)

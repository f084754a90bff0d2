"""`latbench worker`: joins a master, does its part of one run, and ends."""

import os
import sys

import click

from latbench.cli.imports import entry_points_read_once, importing
from latbench.cluster.children import start_engine
from latbench.cluster.handshake import secret_from
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
    secret = secret_from(os.environ)
    engine = start_engine()
    # Locust takes a second to import and patches the standard library: only now, while the engine starts.
    with importing(), entry_points_read_once():
        from latbench.cluster.locust_join import join

    if parent is None:
        click.echo(f"latbench worker: joining {master} (tries for five minutes)", err=True)
    code, left_behind = join(host.strip("[]"), int(port), engine, secret)
    if parent is None:
        click.echo(f"latbench worker: {'the master fell silent' if code else 'the run is over'}", err=True)
    if left_behind and parent is None:  # what is on the machine of the run is found there
        advice = f"copy it to the master's machine and run `latbench runs recover --spool {left_behind}`"
        click.echo(f"latbench worker: not all was taken by the master; it is in {left_behind}: {advice}", err=True)
    sys.exit(code)

"""`latbench` with a link that loses batches and acknowledgements: `python lossy.py VERB …` for `latbench VERB …`.

The share comes from LOSSY_SHARE, the seed from LOSSY_SEED; each loss adds a line to the file LOSSY_LOG.
"""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import latbench.cli.launch
import latbench.cli.worker
from latbench.cli.main import main


def lose_messages() -> None:
    """Patch both ends. Imports Locust, so it is called where the command itself is about to."""
    from latbench.cluster import crew, locust_run, locust_worker
    from latbench.model.frames import Ack, Batch, decode_up

    chance = random.Random(int(os.environ["LOSSY_SEED"]))
    share = float(os.environ["LOSSY_SHARE"])
    log = Path(os.environ["LOSSY_LOG"])
    to_master, tell = locust_worker.Bridge._to_master, crew.Crew.tell

    def lost(what: str) -> bool:
        gone = chance.random() < share
        if gone:
            with log.open("a") as file:
                file.write(f"{what}\n")
        return gone

    def lossy_to_master(self: Any, data: bytes) -> None:
        if not (isinstance(decode_up(data), Batch) and lost("batch")):
            to_master(self, data)

    def lossy_tell(self: Any, member: Any, order: Any) -> None:
        if not (isinstance(order, Ack) and lost("ack")):
            tell(self, member, order)

    def start_worker(host: str, port: int) -> "subprocess.Popen[bytes]":
        command = [sys.executable, __file__, "worker", "--master", f"{host}:{port}", "--parent", str(os.getpid())]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)

    locust_worker.Bridge._to_master = lossy_to_master
    crew.Crew.tell = lossy_tell
    locust_run.start_worker = start_worker


def first_do(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, and then the patches."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        found = function(*args, **kwargs)
        lose_messages()
        return found

    return wrapped


if __name__ == "__main__":
    latbench.cli.launch.resolve_sim = first_do(latbench.cli.launch.resolve_sim)
    latbench.cli.worker.start_engine = first_do(latbench.cli.worker.start_engine)
    main()

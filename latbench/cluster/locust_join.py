"""A Locust worker with its bridge, for `latbench worker`."""

import logging
import signal

import gevent
from locust.env import Environment

from latbench.cluster.children import EngineProcess
from latbench.cluster.locust_worker import Bridge, SlotUser
from latbench.model.errors import UserError

LEASE_LOST = 4


def join(host: str, port: int, engine: EngineProcess, secret: bytes | None) -> tuple[int, str]:
    """Serve one run of the master at `host`:`port`.

    Returns 0, or 4 when the master fell silent, and where what it has not taken is written down. Raises UserError
    where there is no master, or where it does not want this worker.
    """
    logging.getLogger("locust").setLevel(logging.ERROR)
    logging.getLogger("locust.util.exception_handler").setLevel(logging.CRITICAL)  # a traceback a message to nobody
    environment = Environment(user_classes=[SlotUser])
    try:
        runner = environment.create_worker_runner(host, port)  # waits for a master, up to five minutes
    except SystemExit as ended:  # Locust's answer to Ctrl-C
        raise KeyboardInterrupt from ended
    except ConnectionError as error:
        raise UserError(f"--master {host}:{port}: no master answered; start `latbench run --listen` first") from error
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the master decides when to stop
    bridge = Bridge(environment, engine, secret)
    # As process 1 of a container this is not the kernel's to do.
    stopping = gevent.signal_handler(signal.SIGTERM, bridge.closed.set)
    quitting = gevent.spawn(runner.greenlet.join)
    gevent.joinall([quitting, gevent.spawn(bridge.closed.wait)], count=1)
    if not quitting.ready():
        quitting.join(timeout=2)
    bridge.close()
    stopping.cancel()
    if bridge.refused:
        raise UserError(f"--master {host}:{port}: {bridge.refused}")
    return (0 if bridge.said_goodbye else LEASE_LOST), bridge.left_behind

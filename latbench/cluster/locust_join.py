"""A Locust worker with its bridge, for `latbench worker`."""

import logging
import signal

import gevent
from locust.env import Environment

from latbench.cluster.children import EngineProcess
from latbench.cluster.locust_worker import Bridge, SlotUser
from latbench.model.errors import UserError

LEASE_LOST = 4


def join(host: str, port: int, engine: EngineProcess) -> int:
    """Serve one run of the master at `host`:`port`. Returns 0, or 4 when the master fell silent."""
    logging.getLogger("locust").setLevel(logging.ERROR)
    environment = Environment(user_classes=[SlotUser])
    try:
        runner = environment.create_worker_runner(host, port)  # waits for a master, up to five minutes
    except SystemExit as ended:  # Locust's answer to Ctrl-C
        raise KeyboardInterrupt from ended
    except ConnectionError as error:
        raise UserError(f"--master {host}:{port}: no master answered; start `latbench run --listen` first") from error
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the master decides when to stop
    bridge = Bridge(environment, engine)
    quitting = gevent.spawn(runner.greenlet.join)
    gevent.joinall([quitting, gevent.spawn(bridge.closed.wait)], count=1)
    if not quitting.ready():
        quitting.join(timeout=2)
    said_goodbye = bridge.said_goodbye
    bridge.close()
    return 0 if said_goodbye else LEASE_LOST

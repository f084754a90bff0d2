"""What an engine had written down when it died comes once more: it is no second failure."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from harness import Cli, closes, one_off, wait_until
from test_lost_before_the_start import engines

pytestmark = pytest.mark.timeout(110)

REFUSED = 2  # one below what stops an endpoint


@contextmanager
def refusing_twice() -> Iterator[str]:
    """An endpoint that refuses the credentials of the first requests, and never answers the next."""
    over = threading.Event()
    number = iter(range(1000))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            if next(number) >= REFUSED:
                over.wait()
                return
            self.send_response(401)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Be quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that goes away is no error."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            over.set()
            server.shutdown()
            thread.join()


@pytest.mark.long
def test_a_refusal_that_a_dead_engine_had_written_down_counts_once(cli: Cli) -> None:
    cli.prompts()
    with refusing_twice() as url:
        run = cli.start(*one_off(url, 5, 1))
        wait_until(lambda: cli.rows("SELECT count(*) FROM samples WHERE outcome = 'auth_error' HAVING count(*) = 2"))
        wait_until(lambda: cli.rows("SELECT 1 FROM samples WHERE outcome = 'lost'"))  # the third has begun
        (engine,) = engines(cli)
        os.kill(engine, signal.SIGKILL)
        done = run.wait(30.0)
    reasons = [reason["code"] for reason in done.summary["validity"]["reasons"]]
    assert "worker_lost" in reasons
    assert "endpoint_stopped" not in reasons, "the two refusals came twice"
    assert done.code == 97, done.err
    assert closes(done.summary)

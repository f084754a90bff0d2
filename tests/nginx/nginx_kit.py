"""A real nginx before an endpoint: a process of its own, on a port of its own, that logs what it answered.

It runs in the foreground as a single process, so that ending it ends all of it, and keeps every file it writes in a
folder that the test gives.
"""

import http.client
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import free_port, wait_until

_CONF = """\
daemon off;
master_process off;
worker_rlimit_nofile 1024;
pid {folder}/pid;
error_log {folder}/error.log notice;
events {{ worker_connections 512; }}
http {{
    log_format answered '$status $request_method $request_uri $connection';
    access_log {folder}/access.log answered;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 8m;
    proxy_http_version 1.1;
    upstream endpoint {{ server 127.0.0.1:{upstream}; keepalive 64; }}
{zones}
    server {{
        listen 127.0.0.1:{port};
        location = /is-it-there {{ access_log off; return 204; }}
{server}
    }}
}}
"""
_PROXY = "proxy_set_header Connection ''; proxy_set_header Host $host;"


def passing(location: str, to: str, more: str = "", buffering: str = "off") -> str:
    """A location whose requests go on to the path `to` of the endpoint; `more` are directives of its own."""
    directives = f"{more} proxy_buffering {buffering}; {_PROXY} proxy_pass http://endpoint{to};"
    return f"        location {location} {{ {directives} }}"


def why_no_nginx() -> str:
    """Why nginx cannot be started here; empty if it can."""
    return "" if shutil.which("nginx") else "there is no nginx (Debian's package nginx-light)"


@dataclass(frozen=True)
class Nginx:
    """One that runs."""

    port: int
    folder: Path

    @property
    def url(self) -> str:
        """Without any path."""
        return f"http://127.0.0.1:{self.port}"

    def answered(self, requests: int) -> list[list[str]]:
        """Status, method, URI and number of the connection of each request, once there are `requests` of them.

        A line is written after the answer is, so the last ones may be late.
        """
        log = self.folder / "access.log"
        wait_until(lambda: log.read_text().count("\n") >= requests)
        return [line.split(" ") for line in log.read_text().splitlines()]

    def statuses(self, requests: int) -> Counter[int]:
        return Counter(int(line[0]) for line in self.answered(requests))

    @property
    def errors(self) -> str:
        return (self.folder / "error.log").read_text()

    def is_there(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/is-it-there")
            return connection.getresponse().status == 204
        except OSError:
            return False
        finally:
            connection.close()


@contextmanager
def nginx(folder: Path, upstream: int, server: str, zones: str = "") -> Iterator[Nginx]:
    """Before the endpoint at port `upstream`; `server` holds the locations, `zones` what stands outside of them."""
    folder.mkdir()
    found = Nginx(free_port(), folder)
    conf = folder / "nginx.conf"
    conf.write_text(_CONF.format(folder=folder, upstream=upstream, port=found.port, server=server, zones=zones))
    line = ["nginx", "-p", str(folder), "-c", str(conf), "-e", str(folder / "error.log")]
    said = folder / "said"
    with said.open("wb") as out, subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=out, stderr=out) as process:
        try:
            wait_until(lambda: process.poll() is not None or found.is_there(), 20.0)
            assert process.poll() is None, said.read_text() + found.errors
            yield found
        finally:
            process.kill()
            process.wait()

"""The commands of docs/locust.md, as they stand there, but for addresses, ports, and a minute that is seconds here."""

import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
from harness import ROOT, Cli, Command, Served, free_port, wait_until
from test_locustfile import up

pytestmark = [
    pytest.mark.timeout(110),
    pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell"),
]

PAGE = (ROOT / "docs/locust.md").read_text(encoding="utf-8")
SECRET = "correct horse battery staple"


def marked(marker: str) -> str:
    (text,) = re.findall(rf"^<!-- {marker} -->\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return str(text)


def shown(what: str, changes: dict[str, str]) -> str:
    """The block that is marked so; what is replaced in it has to be there."""
    text = marked(f"run: {what}")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text.replace("-f latbench/", f"-f {ROOT}/latbench/")


def shell(cli: Cli, text: str) -> Command:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return cli.start(program=("sh", "-euc", text), env={"PATH": path})


def sent(cli: Cli, endpoint: Served) -> int:
    """How many requests there were, by the store and by the endpoint."""
    ((state,),) = cli.rows("SELECT state FROM runs")
    ((count,),) = cli.rows("SELECT count(*) FROM samples")
    assert state == "complete"
    assert endpoint.stats()["requests"] == count > 0
    return int(count)


@pytest.mark.long
def test_headless(cli: Cli, endpoint: Served) -> None:
    done = shell(cli, shown("headless", {"https://host/v1": endpoint.url, "-t 60s": "-t 5s"})).wait()
    assert (done.code, done.out.startswith("verdict: ")) == (0, True), done.err
    assert sent(cli, endpoint)


@pytest.mark.long
def test_the_web_ui_is_where_the_page_says(cli: Cli, endpoint: Served) -> None:
    port = free_port()
    words = {"https://host/v1": endpoint.url, "locust -f": f"exec locust --web-port {port} -f"}
    locust = shell(cli, shown("web", words))
    wait_until(lambda: up(port))
    assert f"Starting web interface at http://127.0.0.1:{port}" in locust.err.read_text()
    locust.signal(signal.SIGTERM)
    assert locust.wait(30.0).code == 0


@pytest.mark.long
def test_the_shape(cli: Cli, endpoint: Served) -> None:
    shape = marked("file: rush_hour.py")
    assert "((3, 2), (3, 6), (3, 2))" in shape
    cli.write("rush_hour.py", shape.replace("((3, 2), (3, 6), (3, 2))", "((1, 2), (2, 6))"))
    done = shell(cli, shown("shape", {"https://host/v1": endpoint.url})).wait()
    assert done.code == 0, done.err
    assert sent(cli, endpoint)
    assert cli.rows("SELECT count(DISTINCT slot) FROM samples") == [(6,)]


@pytest.mark.long
def test_several_processes(cli: Cli, endpoint: Served) -> None:
    port = free_port()
    words = {"https://host/v1": endpoint.url, "-t 60s": f"-t 5s --master-bind-port {port} --master-port {port}"}
    done = shell(cli, shown("processes", words)).wait()
    assert done.code == 0, done.err
    assert sent(cli, endpoint)
    assert cli.rows("SELECT count(DISTINCT worker) FROM samples") == [(2,)]


@pytest.mark.long
def test_several_machines(cli: Cli, endpoint: Served) -> None:
    cli.write("latbench.secret", f"{SECRET}\n")
    port = free_port()
    words = {"https://host/v1": endpoint.url, "-t 60s": "-t 5s", "10.0.0.1": f"0.0.0.0 --master-bind-port {port}"}
    master = shell(cli, shown("master", words))
    theirs = {"10.0.0.1": f"127.0.0.1 --master-port {port}"}
    workers = [shell(cli, shown("worker", theirs)) for _ in range(2)]
    done = master.wait()
    assert done.code == 0, done.err
    assert sent(cli, endpoint)
    assert cli.rows("SELECT count(DISTINCT worker) FROM samples") == [(2,)]
    assert [worker.wait(30.0).code for worker in workers] == [0, 0]

"""The commands of docs/distributed.md, on loopback: one machine and two, the script of the Kubernetes Job, recovery.

What is replaced is checked to be there: addresses by loopback, mounted folders by the test's own. The Job is not given
to a cluster here; its parts are checked against one another instead. Blocks of `shell` name files made here: they
are executed, where those of `sh` are parsed as well.
"""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import Cli, Command, Served, closes, free_port
from test_docs import ROOT, blocks

PAGE = ROOT / "docs" / "distributed.md"
SECRET = "correct horse battery staple"
REQUESTS = 40

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(110),
    pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell"),
]


def shown(what: str) -> str:
    """The block that is marked so."""
    (text,) = [block.text for block in blocks(PAGE) if block.marker == f"run: {what}"]
    return text


def replaced(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


def shell(cli: Cli, text: str, **env: str) -> Command:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return cli.start(program=("sh", "-euc", text), env={"PATH": path, "LATBENCH_SPOOL": str(cli.cwd / "spools"), **env})


@pytest.fixture
def scenario(cli: Cli, endpoint: Served) -> Path:
    """What the page calls my-scenario.yaml, small; and the file with the secret."""
    cli.write("latbench.secret", f"{SECRET}\n")
    endpoints = [{"name": "m", "api": "openai-chat", "base_url": endpoint.url, "model": "m"}]
    load = [{"shape": "closed", "concurrency": 4, "requests": REQUESTS}]
    return cli.scenario("my-scenario.yaml", endpoints=endpoints, load=load)


def all_sent(summary: dict[str, Any], endpoint: Served, workers: int) -> bool:
    """Valid, complete, by so many workers, and the endpoint has seen the same."""
    assert closes(summary)
    assert (summary["run"]["state"], summary["run"]["workers"]) == ("complete", workers)
    return summary["validity"]["ok"] == endpoint.stats()["requests"] == REQUESTS


def stored(cli: Cli) -> dict[str, Any]:
    """The summary in the only run directory."""
    (path,) = cli.cwd.glob("runs/*/summary.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("env", [{}, {"LATBENCH_SECRET": SECRET}], ids=["no secret", "secret"])
def test_one_machine(cli: Cli, endpoint: Served, scenario: Path, env: dict[str, str]) -> None:
    done = shell(cli, shown("one machine"), **env).wait()
    assert done.code == 0, done.err
    assert all_sent(stored(cli), endpoint, 2)


def test_two_machines_with_a_secret(cli: Cli, endpoint: Served, scenario: Path) -> None:
    changes = {"10.0.0.1:5557": f"127.0.0.1:{free_port()}"}
    master = shell(cli, replaced(shown("master"), changes))
    workers = [shell(cli, replaced(shown("worker"), changes)) for _ in range(2)]
    done = master.wait()
    assert done.code == 0, done.err
    assert all_sent(stored(cli), endpoint, 2)
    ended = [worker.wait() for worker in workers]
    assert [one.code for one in ended] == [0, 0], ended
    assert not any(SECRET in one.err + one.out for one in (done, *ended))
    assert not [path for path in cli.cwd.rglob("*") if path.is_file() and holds_secret(path)]


def holds_secret(path: Path) -> bool:
    return path.name != "latbench.secret" and SECRET.encode() in path.read_bytes()


@pytest.mark.long
def test_recovery_has_nothing_to_do_after_a_run_that_ended(cli: Cli, scenario: Path) -> None:
    assert shell(cli, shown("one machine")).wait().code == 0
    (cli.cwd / "spools-of-10.0.0.2").mkdir()
    before = stored(cli)
    done = shell(cli, shown("recover")).wait()
    assert done.code == 0, done.err
    assert "no run in latbench.db was killed: nothing to recover" in done.out
    assert stored(cli) == before


# --- Kubernetes -------------------------------------------------------------------------------------------------------


def documents() -> tuple[dict[str, Any], dict[str, Any]]:
    service, job = yaml.safe_load_all(shown("kubernetes"))
    assert (service["kind"], job["kind"]) == ("Service", "Job")
    return service, job


def container(job: dict[str, Any]) -> dict[str, Any]:
    (found,) = job["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_the_parts_of_the_job_fit_together() -> None:
    service, job = documents()
    spec, template = job["spec"], job["spec"]["template"]
    pod, made = template["spec"], container(job)
    env = {entry["name"]: entry for entry in made["env"]}
    assert (spec["completionMode"], spec["backoffLimit"], pod["restartPolicy"]) == ("Indexed", 0, "Never")
    assert spec["completions"] == spec["parallelism"] == int(env["PODS"]["value"])
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert pod["subdomain"] == service["metadata"]["name"]
    (port,) = [entry["port"] for entry in service["spec"]["ports"]]
    (script,) = made["args"]
    assert f"--listen 0.0.0.0:{port} " in script
    assert f"--master {job['metadata']['name']}-0.{service['metadata']['name']}:{port}\n" in script
    assert all("value" not in entry for name, entry in env.items() if re.search("SECRET|KEY", name))
    assert made["resources"]["requests"] == made["resources"]["limits"]
    mounts = {mount["name"]: mount["mountPath"] for mount in made["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert mounts.keys() == volumes.keys()
    assert mounts["spools"] == "/dev/shm"
    assert volumes["spools"]["emptyDir"]["medium"] == "Memory"
    assert made["workingDir"] == mounts["results"]


def test_the_script_of_the_job_runs(cli: Cli, endpoint: Served, scenario: Path) -> None:
    """Each pod as a process: the same command, the same environment but for its index."""
    _, job = documents()
    made = container(job)
    assert made["command"] == ["sh", "-euc"]
    (script,) = made["args"]
    here = f"127.0.0.1:{free_port()}"
    script = replaced(
        script,
        {"0.0.0.0:5557": here, "latbench-0.latbench:5557": here, "/scenario/": f"{cli.cwd}/"},
    )
    pods = job["spec"]["completions"]
    env = {entry["name"]: entry.get("value", SECRET) for entry in made["env"]}
    started = [shell(cli, script, **env, JOB_COMPLETION_INDEX=str(index)) for index in range(pods)]
    done = started[0].wait()
    assert done.code == 0, done.err
    assert all_sent(done.summary, endpoint, pods - 1)
    assert [worker.wait().code for worker in started[1:]] == [0] * (pods - 1)

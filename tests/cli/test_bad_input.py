"""Bad input: exit 2 and a line that says what, where and what to do; nothing sent, nothing kept."""

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from harness import PROMPTS, Cli, Done, Scripted, free_port, wait_until

pytestmark = pytest.mark.timeout(110)

OK_ANSWER = '{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}'


@pytest.fixture
def server(start_scripted: Callable[..., Scripted]) -> Scripted:
    """An endpoint that must not be asked for anything."""
    return start_scripted(200, OK_ANSWER)


def _scenario(server: Scripted, **keys: Any) -> dict[str, Any]:
    endpoint = {"name": "a", "api": "openai-chat", "base_url": server.url, "model": "m"}
    load = [{"shape": "closed", "concurrency": 2, "requests": 4}]
    return {
        "name": "mine",
        "endpoints": [endpoint | keys.pop("endpoint", {})],
        "prompts": {"path": "own.jsonl"},
        "load": load,
        **keys,
    }


def _refused(cli: Cli, server: Scripted, done: Done, *said: str) -> None:
    """One clear line on standard error, and no trace of a run."""
    assert (done.code, done.out) == (2, ""), done.err
    assert "Traceback" not in done.err
    for part in said:
        assert part in done.err
    assert server.requests == []
    assert not (cli.cwd / "runs").exists()
    assert not (cli.cwd / "out").exists()
    if (cli.cwd / "latbench.db").exists():
        assert cli.rows("SELECT count(*) FROM runs") == [(0,)]
    wait_until(lambda: not cli.family(), 10.0)


def _one_line(done: Done) -> None:
    assert done.said.startswith("latbench: ")
    assert done.said.count("\n") == 1, done.err


FILES: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("unknown-key", {"timeout": {"idle": "1s"}}, ("mine.yaml:", "timeout", "unknown key", '"timeouts"')),
    ("unknown-nested", {"endpoint": {"modle": "x"}}, ("mine.yaml:", "endpoints[0].modle", '"model"')),
    ("wrong-type", {"output": {"max_tokens": "many"}}, ("mine.yaml:", "output.max_tokens", "not a size")),
    ("bare-number", {"drain": 30}, ("mine.yaml:", "drain", "write 30s")),
    (
        "unknown-shape",
        {"load": [{"shape": "open", "concurrency": 1, "requests": 1}]},
        ("mine.yaml:", "shape", "closed"),
    ),
    ("no-end", {"load": [{"shape": "closed", "concurrency": 1}]}, ("mine.yaml:", "load[0]", "duration or requests")),
    ("missing-prompts", {"prompts": {"path": "elsewhere.jsonl"}}, ("mine.yaml:", "prompts", "elsewhere.jsonl")),
    ("unknown-pack", {"prompts": {"pack": "code-max"}}, ("mine.yaml:", "prompts.pack", '"code-mix"')),
    (
        "key-not-set",
        {"endpoint": {"api_key_env": "NO_SUCH_KEY"}},
        ("mine.yaml:", "api_key_env", "NO_SUCH_KEY", "export"),
    ),
    (
        "header-not-set",
        {"endpoint": {"headers": {"X-Team": {"env": "NO_SUCH_TEAM"}}}},
        ("mine.yaml:", "headers.X-Team", "NO_SUCH_TEAM", "export"),
    ),
    ("literal-secret", {"endpoint": {"headers": {"X-Api-Key": "sk-123"}}}, ("mine.yaml:", "X-Api-Key", "{env: NAME}")),
    ("unknown-api", {"endpoint": {"api": "openai-chta"}}, ("mine.yaml:", "api", "openai-chat")),
    ("no-ca-file", {"endpoint": {"ca_file": "nowhere.pem"}}, ("mine.yaml:", "ca_file", "nowhere.pem")),
]


@pytest.mark.parametrize(("keys", "said"), [case[1:] for case in FILES], ids=[case[0] for case in FILES])
def test_a_mistake_in_the_file(cli: Cli, server: Scripted, keys: dict[str, Any], said: tuple[str, ...]) -> None:
    cli.prompts()
    cli.write("mine.yaml", json.dumps(_scenario(server, **keys), indent=1))
    done = cli.here("run", "./mine.yaml", "--json")
    _refused(cli, server, done, *said)
    _one_line(done)
    assert "sk-123" not in done.err


def test_several_mistakes_are_said_together(cli: Cli, server: Scripted) -> None:
    cli.prompts()
    data = _scenario(server, drain=3, output={"max_token": 5})
    cli.write("mine.yaml", json.dumps(data, indent=1))
    done = cli.here("run", "mine.yaml")
    _refused(cli, server, done, "drain", '"max_tokens"')
    assert done.err.count("\n") == 2


def test_mistakes_of_different_kinds_are_said_together(cli: Cli, server: Scripted) -> None:
    """An unknown key does not hide that prompts, a trace, a variable and a certificate are not there."""
    keys: dict[str, Any] = {"prompts": {"path": "elsewhere.jsonl"}, "endpoint": {"api_key_env": "NO_SUCH_KEY"}}
    keys["endpoint"]["ca_file"] = "nowhere.pem"
    keys["load"] = [{"shape": "trace", "path": "nowhere.csv"}]
    words = ("elsewhere.jsonl", "NO_SUCH_KEY", "nowhere.pem")
    cli.write("mine.yaml", json.dumps(_scenario(server, **keys, timeout={"idle": "1s"}), indent=1))
    done = cli.here("run", "mine.yaml")
    _refused(cli, server, done, '"timeouts"', "nowhere.csv", *words)
    assert done.err.count("\n") == 5
    keys["load"] = [{"shape": "closed", "concurrency": 1, "requests": 1}]
    cli.write("mine.yaml", json.dumps(_scenario(server, **keys), indent=1))
    done = cli.here("run", "mine.yaml")
    _refused(cli, server, done, *words)
    assert done.err.count("\n") == 3
    assert cli.here("plan", "mine.yaml").err.count("\n") == 1, "a plan needs no environment"


@pytest.mark.parametrize("verb", [("run", "--quiet"), ("plan",)])
@pytest.mark.parametrize(
    ("budget", "said"),
    [({"tokens": 200}, "mine.yaml:{}: budget.tokens: a: "), ({"usd": 0.0001}, "mine.yaml:{}: budget.usd: a: ")],
)
def test_a_budget_that_is_smaller_than_one_request(
    cli: Cli, server: Scripted, verb: tuple[str, ...], budget: dict[str, float], said: str
) -> None:
    cli.prompts()
    price = {"price": {"input": 3.0, "output": 15.0}}
    text = json.dumps(_scenario(server, budget=budget, endpoint=price, output={"max_tokens": 8}), indent=1)
    cli.write("mine.yaml", text)
    line = next(n for n, line in enumerate(text.splitlines(), 1) if f'"{next(iter(budget))}"' in line)
    done = cli.here(verb[0], "mine.yaml", *verb[1:])
    _refused(cli, server, done, said.format(line), "even the smallest request may", "lower output.max_tokens")
    assert done.err.count("\n") == 1


FLAGS: list[tuple[str, list[str], tuple[str, ...]]] = [
    ("duration", ["--duration", "30"], ("--duration 30", "30s")),
    ("no-duration", ["--duration", "0"], ("--duration 0: must be longer than 0, with its unit, such as 60s",)),
    ("concurrency", ["--concurrency", "0"], ("--concurrency",)),
    ("requests", ["--requests", "-5"], ("--requests",)),
    ("word", ["--requests", "many"], ("--requests", "many")),
    ("max-tokens", ["--max-tokens", "0"], ("--max-tokens 0", "at least 1")),
    ("seed", ["--seed", "-1"], ("--seed -1", "at least 0")),
    ("label", ["--label", "region"], ("--label", "KEY=VALUE")),
    ("api", ["--api", "openai"], ("--api", "openai-chat")),
    ("workers", ["--workers", "0"], ("--workers 0", "--join")),
    ("join", ["--join", "1"], ("--join", "--listen")),
    ("listen", ["--join", "1", "--listen", "8000"], ("--listen", "HOST:PORT")),
    ("nobody-joins", ["--listen", "127.0.0.1:8000"], ("--listen 127.0.0.1:8000", "nobody is to join", "--join N")),
    ("key", ["--api-key-env", "NO_SUCH_KEY"], ("--api-key-env", "NO_SUCH_KEY")),
    ("prompts", ["--prompts", "nothing.jsonl"], ("nothing.jsonl",)),
    ("empty-prompts", ["--prompts", "empty.jsonl"], ("empty.jsonl",)),
    ("bad-prompts", ["--prompts", "bad.jsonl"], ("bad.jsonl:2",)),
    ("url", ["--url", "ftp://host/v1"], ("--url", "http")),
    ("url-with-key", ["--url", "http://user:sk-456@127.0.0.1/v1"], ("--url", "api_key_env")),
    ("unknown-flag", ["--concurency", "3"], ("--concurrency",)),
    ("a-folder", ["./"], ("./: a folder", "name a file of it")),
    ("no-such-file", ["other.yaml"], ("other.yaml", "no such file", "mine.yaml")),
    ("no-such-scenario", ["quickstat"], ("quickstat", '"quickstart"')),
]


@pytest.mark.parametrize(("flags", "said"), [case[1:] for case in FLAGS], ids=[case[0] for case in FLAGS])
def test_a_mistake_in_a_flag(cli: Cli, server: Scripted, flags: list[str], said: tuple[str, ...]) -> None:
    cli.prompts()
    cli.write("empty.jsonl", "")
    cli.write("bad.jsonl", json.dumps(PROMPTS[0]) + "\n{not json\n")
    cli.write("mine.yaml", json.dumps(_scenario(server)))
    positional = [] if flags[0].endswith((".yaml", "stat", "/")) else ["mine.yaml"]
    done = cli.here("run", *positional, *flags)
    _refused(cli, server, done, *said)
    assert "sk-456" not in done.err


def test_a_host_that_refuses_the_connection(cli: Cli, server: Scripted) -> None:
    """Found before the first request, at one endpoint of two, and before anything is written."""
    cli.prompts()
    data = _scenario(server)
    port = free_port()
    data["endpoints"].append(data["endpoints"][0] | {"name": "b", "base_url": f"http://127.0.0.1:{port}/v1"})
    cli.write("mine.yaml", json.dumps(data, indent=1))
    done = cli.run("run", "mine.yaml", "--out", "out")
    _refused(cli, server, done, "endpoint b", "127.0.0.1", str(port))
    _one_line(done)


def test_a_host_that_does_not_exist(cli: Cli, server: Scripted) -> None:
    cli.prompts()
    flags = ["--model", "m", "--prompts", "own.jsonl", "--requests", "1"]
    done = cli.run("run", "--url", "http://no-such-host.invalid/v1", *flags)
    _refused(cli, server, done, "no-such-host.invalid")
    _one_line(done)


def test_plain_http_where_tls_was_asked_for(cli: Cli, server: Scripted) -> None:
    cli.prompts()
    flags = ["--model", "m", "--prompts", "own.jsonl", "--requests", "1"]
    done = cli.run("run", "--url", server.url.replace("http:", "https:"), *flags)
    _refused(cli, server, done, "endpoint m")
    _one_line(done)


def test_a_run_directory_that_is_not_empty(cli: Cli, server: Scripted) -> None:
    cli.prompts()
    cli.write("mine.yaml", json.dumps(_scenario(server)))
    cli.write("full/notes.txt", "mine")
    done = cli.run("run", "mine.yaml", "--out", "full")
    _refused(cli, server, done, "full", "not empty", "--out")
    _one_line(done)
    assert [file.name for file in (cli.cwd / "full").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("verb", [["run", "mine.yaml"], ["report"], ["runs", "list"], ["runs", "show", "latest"]])
def test_a_store_that_is_no_database(cli: Cli, server: Scripted, verb: list[str]) -> None:
    cli.prompts()
    cli.write("mine.yaml", json.dumps(_scenario(server)))
    other = cli.write("notes.db", "these are my notes\n" * 100)
    done = cli.run(*verb, "--store", "notes.db")
    _refused(cli, server, done, "notes.db", "--store")
    _one_line(done)
    assert other.read_text() == "these are my notes\n" * 100


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["report"], ("latbench.db", "latbench run")),
        (["runs", "list"], ("latbench.db", "--store")),
        (["worker", "--master", "host"], ("--master host", "HOST:PORT")),
        (["worker"], ("--master",)),
        (["rnu"], ("rnu",)),
        (["report", "--format", "pdf"], ("pdf", "csv")),
    ],
)
def test_other_verbs(cli: Cli, server: Scripted, line: list[str], said: tuple[str, ...]) -> None:
    _refused(cli, server, cli.here(*line), *said)
    assert not (cli.cwd / "latbench.db").exists(), "reading makes no store"


def test_an_address_that_is_taken(cli: Cli, server: Scripted) -> None:
    cli.prompts()
    cli.write("mine.yaml", json.dumps(_scenario(server)))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = cli.run("run", "mine.yaml", "--workers", "1", "--join", "1", "--listen", address, "--quiet")
    _refused(cli, server, done, address)
    _one_line(done)

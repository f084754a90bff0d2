"""Base URLs as gateways have them: below a prefix, without a version of their own, with a slash too many."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from harness import FAST, Cli, Served
from nginx_kit import Nginx, passing

from latbench.providers.registry import APIS

pytestmark = pytest.mark.long

REQUESTS = 2

# API -> the endpoint's own part of its base URL, and what is posted to below it.
PATHS = {
    "openai-chat": ("/v1", "/chat/completions"),
    "openai-completions": ("/v1", "/completions"),
    "openai-responses": ("/v1", "/responses"),
    "azure-openai": ("", "/openai/deployments/m/chat/completions?api-version=2024-10-21"),
    "anthropic": ("/v1", "/messages"),
    "gemini": ("/v1beta", "/models/m:streamGenerateContent?alt=sse"),
    "mistral": ("/mistral/v1", "/chat/completions"),
    "cohere": ("/v2", "/chat"),
    "bedrock": ("", "/model/m/converse-stream"),
    "ollama": ("", "/api/chat"),
}


def test_every_api_is_here() -> None:
    assert set(PATHS) == set(APIS)


@pytest.mark.parametrize("versioned", [True, False], ids=["prefix-and-version", "prefix-alone"])
def test_below_a_prefix(
    cli: Cli, start_sim: Callable[..., Served], start_nginx: Callable[..., Nginx], versioned: bool
) -> None:
    """The prefix stays in front of the API's own path, and slashes at its end are not doubled."""
    sim = start_sim(FAST)
    locations = [passing("/some/prefix/", "/")]
    if not versioned:
        locations = [passing(f"/some/prefix/{api}/", f"{own}/") for api, (own, _) in PATHS.items()]
    front = start_nginx(sim.port, "\n".join(locations))
    prefixes = {api: f"/some/prefix{own if versioned else f'/{api}'}" for api, (own, _) in PATHS.items()}
    endpoints: list[dict[str, Any]] = [
        {
            "name": api + slash.replace("/", "-slash"),
            "api": api,
            "base_url": front.url + prefixes[api] + slash,
            "model": "m",
            "api_key_env": "A_KEY",
        }
        for api in PATHS
        for slash in ("", "/", "///")
    ]
    path = cli.scenario(endpoints=endpoints, load=[{"shape": "closed", "concurrency": 1, "requests": REQUESTS}])
    done = cli.run("run", path, "--json", env={"A_KEY": "k-of-nobody"})
    assert done.code == 0, done.err
    outcomes = {
        name: {outcome: n for outcome, n in block["outcomes"].items() if n}
        for name, block in done.summary["endpoints"].items()
    }
    assert outcomes == {endpoint["name"]: {"ok": REQUESTS} for endpoint in endpoints}
    wanted = Counter({prefixes[api] + path: 3 * REQUESTS for api, (_, path) in PATHS.items()})
    lines = front.answered(wanted.total())
    assert {(status, method) for status, method, *_ in lines} == {("200", "POST")}
    assert Counter(line[2] for line in lines) == wanted

"""docs/providers.md: every API of the registry is there, and answers where the page says that it is."""

import json
import re
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from test_docs import ROOT, first_column

from latbench.providers.registry import APIS

PAGE = "docs/providers.md"
KEY = {"KEY_OF_THIS_TEST": "correct-horse"}


def base_urls() -> dict[str, str]:
    """What the page says to give as `base_url`, by API."""
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `([\w-]+)` \| `(https?://[^`]+)` \| `/", text, re.MULTILINE))


def test_every_api_is_described() -> None:
    assert list(base_urls()) == first_column(PAGE, "api") == list(APIS)
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    assert re.findall(r"^- `([\w-]+)`: ", text, re.MULTILINE) == list(APIS)
    (abilities,) = re.findall(r"^\| api \| a stream is .*?\n\n", text, re.DOTALL | re.MULTILINE)
    assert re.findall(r"^\| `([\w-]+)` \|", abilities, re.MULTILINE) == list(APIS)


@pytest.mark.long
def test_every_api_answers_where_the_page_says(
    tmp_path: Path, environment: dict[str, str], simulate: Callable[..., AbstractContextManager[str]]
) -> None:
    with simulate("--api-key-env=KEY_OF_THIS_TEST", env=KEY) as url:
        run_all(url.removesuffix("/v1"), tmp_path, environment | KEY)


def run_all(root: str, folder: Path, environment: dict[str, str]) -> None:
    endpoints = [
        {
            "name": f"{api} {'streamed' if stream else 'plain'}",
            "api": api,
            "base_url": root + urlsplit(url).path,
            "model": "sim-coder",
            "api_key_env": "KEY_OF_THIS_TEST",
            "stream": stream,
        }
        for api, url in base_urls().items()
        for stream in (True, False)
    ]
    scenario = {
        "name": "every-api",
        "endpoints": endpoints,
        "prompts": {"pack": "code-mix", "tasks": {"completion": 1}},
        "output": {"max_tokens": 4},
        "load": {"shape": "closed", "concurrency": 1, "requests": 2},
    }
    (folder / "every-api.yaml").write_text(yaml.safe_dump(scenario), encoding="utf-8")
    command = ["latbench", "run", "./every-api.yaml", "--json", "--quiet"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["endpoints"]
    assert {name: block["outcomes"]["ok"] for name, block in found.items()} == {one["name"]: 2 for one in endpoints}

"""A scenario with its prompts: what is wrong with the files it names is said although the scenario is wrong itself."""

from pathlib import Path

import pytest

from latbench.model.errors import UserError
from latbench.scenario.check import load_whole
from latbench.scenario.loader import Flags

GOOD = """name: s
endpoints:
  - {name: a, api: openai-chat, base_url: http://h, model: m, api_key_env: KEY}
prompts: {path: own.txt}
load:
  - {shape: closed, concurrency: 1, requests: 1}
"""
KEY = "s.yaml:3: endpoints[0].api_key_env: the environment variable KEY is not set; export it"
TRACE = "  - {shape: trace, path: none.csv}\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.txt").write_text("Write a loop.")


def refused(text: str, environ: dict[str, str] | None = None, **flags: str | Path | None) -> list[str]:
    Path("s.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        load_whole(Path("s.yaml"), Flags(**flags), environ)  # type: ignore[arg-type]
    return str(caught.value).split("\n")


def test_what_is_right_is_given() -> None:
    Path("s.yaml").write_text(GOOD)
    loaded, prompts = load_whole(Path("s.yaml"), environ={"KEY": "x"})
    assert (loaded.scenario.name, len(prompts.prompts)) == ("s", 1)
    assert load_whole(Path("s.yaml"))[0].sha256 == loaded.sha256


def test_the_environment_is_only_looked_at_where_it_is_given() -> None:
    assert refused(GOOD, {}) == [KEY]
    gone = GOOD.replace("own.txt", "gone.txt")
    assert len(refused(gone)) == 1
    assert refused(gone, {})[0] == KEY
    assert "gone.txt" in refused(gone, {})[1]


def test_of_a_wrong_scenario_the_sections_that_can_be_read_are_looked_at() -> None:
    found = refused(GOOD.replace("own.txt", "gone.txt").replace("name: s", "nmae: s") + TRACE, {})
    assert 'did you mean "name"?' in found[0] + found[1]
    assert KEY in found
    assert sum("gone.txt" in line for line in found) == 1
    assert sum("none.csv" in line for line in found) == 1


def test_a_price_and_a_trace_that_are_missing_are_said_together_and_once() -> None:
    found = refused(f"{GOOD}{TRACE}budget: {{usd: 1}}\n", {"KEY": "x"})
    assert ["needs a price of every endpoint" in found[0], "none.csv" in found[1], len(found)] == [True, True, 2]


@pytest.mark.parametrize("section", ["prompts: {pth: x}", "prompts: 3", "prompts:"])
def test_of_a_section_that_cannot_be_read_only_that_is_said(section: str) -> None:
    wrong = GOOD.replace("prompts: {path: own.txt}", section)
    assert all(line.startswith("s.yaml:4: prompts") for line in refused(wrong))


def test_what_flags_replace_is_not_looked_at() -> None:
    wrong = GOOD.replace("own.txt", "gone.txt").replace("name: s", "nmae: s") + TRACE
    found = refused(wrong, {}, prompts="own.txt", url="http://h", rate="2/s")
    assert not any(word in line for line in found for word in ("gone.txt", "KEY", "none.csv"))
    assert any("--prompts" in line for line in refused(wrong, {}, prompts="other.txt"))


@pytest.mark.parametrize("text", ["- a\n", "a: [\n"])
def test_a_file_that_is_no_mapping_is_one_mistake(text: str) -> None:
    assert len(refused(text, {})) == 1

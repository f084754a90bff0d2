"""Prompts that are gaps: `fill` has the code as it was written, and what says more than a gap goes out in words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.model.errors import UserError
from latbench.model.request import Fill, Prompt
from latbench.scenario.prompts import load_prompts, read_pack
from latbench.scenario.schema import PromptSettings

CODE = "def add(a, b):\n    return a + b\n"
SHIPPED = Path(__file__).parents[2] / "scenarios" / "code-mix"
Load = Callable[[dict[str, Any]], Prompt]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """The prompt that one entry of one's own comes to."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "add.py").write_text(CODE)

    def one(entry: dict[str, Any]) -> Prompt:
        (folder / "own.jsonl").write_text(json.dumps(entry) + "\n")
        settings = PromptSettings.model_validate({"path": "own.jsonl"})
        (found,) = load_prompts(settings, folder, "s.yaml:1: prompts").prompts
        return found

    return one


@pytest.mark.parametrize(
    ("entry", "fill"),
    [
        ({"prefix": "a = ", "suffix": "\n"}, Fill("a = ", "\n")),
        ({"prefix": "a = "}, Fill("a = ", "")),
        ({"suffix": "return a\n", "language": "python"}, Fill("", "return a\n")),
        ({"prefix": "a = ", "suffix": None, "messages": None, "context_files": []}, Fill("a = ", "")),
        ({"prefix": "<CURSOR>", "suffix": "<CURSOR>"}, Fill("<CURSOR>", "<CURSOR>")),
        ({"prefix": "", "suffix": ""}, None),
        ({"prompt": "Add."}, None),
        ({"messages": [{"role": "user", "content": "Add."}], "prefix": "a = "}, None),
        ({"prompt": "In tabs.", "prefix": "a = ", "suffix": "\n"}, None),
        ({"instruction": "In tabs.", "prefix": "a = ", "suffix": "\n"}, None),
        ({"system": "Be terse.", "prefix": "a = ", "suffix": "\n"}, None),
        ({"context_files": ["add.py"], "prefix": "a = ", "suffix": "\n"}, None),
    ],
)
def test_a_gap_is_what_nothing_else_is_said_about(entry: dict[str, Any], fill: Fill | None, load: Load) -> None:
    assert load(entry).fill == fill


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8")))
def test_the_code_is_kept_as_it_was_written_and_the_words_have_all_of_it(load: Load, prefix: str, suffix: str) -> None:
    found = load({"prefix": prefix, "suffix": suffix})
    assert found.fill == Fill(prefix, suffix)
    (message,) = found.messages
    assert f"{prefix}<CURSOR>{suffix}" in message.content
    assert found.tokens > 0


@pytest.mark.parametrize("key", ["prefix", "suffix"])
def test_a_gap_is_text(key: str, load: Load) -> None:
    with pytest.raises(UserError, match=f"own.jsonl:1: {key}: must be text"):
        load({key: 7})


def test_half_a_surrogate_pair_is_no_code(load: Load) -> None:
    with pytest.raises(UserError, match="half of a surrogate pair"):
        load({"prefix": "\ud800", "suffix": ""})


def test_the_shipped_pack_has_gaps_and_none_of_them_leaves_a_context_out() -> None:
    found = [prompt for prompt in read_pack(SHIPPED) if prompt.fill is not None]
    assert len(found) >= 10
    for prompt in found:
        assert prompt.fill is not None
        assert prompt.messages[0].content.startswith("Fill in the code at <CURSOR>.")
        assert f"{prompt.fill.prefix}<CURSOR>{prompt.fill.suffix}" in prompt.messages[0].content

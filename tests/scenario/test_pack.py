"""The pack that comes with latbench is what it promises: its manifest, its spread, and no prompt twice."""

import re
from collections import Counter
from pathlib import Path

import pytest

from latbench.model.request import Prompt
from latbench.scenario import manifest
from latbench.scenario.loader import read_yaml
from latbench.scenario.prompts import PromptSet, load_prompts
from latbench.scenario.schema import PromptSettings

PACK = Path(__file__).parents[2] / "scenarios" / "code-mix"
CONTEXT_FILE = re.compile(r"^File: (context/\S+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def loaded() -> PromptSet:
    return load_prompts(PromptSettings(path=str(PACK)), Path())


@pytest.fixture(scope="module")
def written() -> dict[str, dict[str, object]]:
    """The prompts as their files have them, by id."""
    items = [item for file in sorted((PACK / "prompts").glob("*.yaml")) for item in read_yaml(file).data]
    return {item["id"]: item for item in items}


def test_the_manifest_is_up_to_date() -> None:
    existing = read_yaml(PACK / "manifest.yaml").data
    assert manifest.build(PACK, existing) == existing


def test_there_are_enough_of_each_task(loaded: PromptSet) -> None:
    tasks = Counter(prompt.task for prompt in loaded.prompts)
    assert len(loaded.prompts) >= 120
    assert min(tasks[task] for task in ("generation", "completion", "review", "search")) >= 30


def test_two_reviews_of_three_are_of_the_harder_tiers(loaded: PromptSet) -> None:
    tiers = Counter(prompt.tier for prompt in loaded.prompts if prompt.task == "review")
    assert set(tiers) == {1, 2, 3}
    assert (tiers[2] + tiers[3]) / tiers.total() == pytest.approx(2 / 3, abs=0.12)


def test_all_languages_are_there(loaded: PromptSet) -> None:
    languages = {prompt.language for prompt in loaded.prompts}
    assert languages == {"python", "typescript", "go", "rust", "java", "sql"}


def test_lengths_reach_from_a_short_question_to_a_long_paste(loaded: PromptSet) -> None:
    lengths = [prompt.tokens for prompt in loaded.prompts]
    assert 100 <= min(lengths) <= 200
    assert 12_000 <= max(lengths) <= 16_000
    assert min(Counter(manifest.length_bin(length) for length in lengths).values()) >= len(lengths) * 0.05


def test_every_context_file_is_used(loaded: PromptSet) -> None:
    used = {name for prompt in loaded.prompts for name in CONTEXT_FILE.findall(text_of(prompt))}
    assert used == set(read_yaml(PACK / "manifest.yaml").data["context_files"])


def test_a_search_has_its_answer_in_the_context_and_not_in_the_question(
    loaded: PromptSet, written: dict[str, dict[str, object]]
) -> None:
    for prompt in loaded.prompts:
        if prompt.task != "search":
            continue
        location = prompt.expect["location"]
        assert location["file"] in written[prompt.id]["context_files"], prompt.id  # type: ignore[operator]
        word = re.compile(rf"(?<!\w){re.escape(location['symbol'])}(?!\w)")
        assert word.search((PACK / location["file"]).read_text(encoding="utf-8")), prompt.id
        assert not word.search(str(written[prompt.id]["prompt"])), prompt.id


def shingles(text: str) -> frozenset[int]:
    """Hashes of all runs of five words."""
    words = text.split()
    return frozenset(hash(tuple(words[index : index + 5])) for index in range(max(1, len(words) - 4)))


def too_similar(texts: dict[str, str], limit: float = 0.8) -> list[tuple[str, str]]:
    """Pairs whose Jaccard similarity reaches the limit. Sizes that differ too much cannot reach it."""
    sets = sorted(((key, shingles(text)) for key, text in texts.items()), key=lambda item: len(item[1]))
    found = []
    for index, (key, small) in enumerate(sets):
        for other, large in sets[index + 1 :]:
            if len(small) < limit * len(large):
                break
            shared = len(small & large)
            if shared >= limit * (len(small) + len(large) - shared):
                found.append((key, other))
    return found


def test_no_two_prompts_are_alike_as_sent(loaded: PromptSet) -> None:
    assert too_similar({prompt.id: text_of(prompt) for prompt in loaded.prompts}) == []


def test_no_two_prompts_are_alike_in_their_own_words(loaded: PromptSet, written: dict[str, dict[str, object]]) -> None:
    own = {
        prompt.id: " ".join(
            str(written[prompt.id].get(key, "")) for key in ("system", "prompt", "prefix", "suffix", "messages")
        )
        for prompt in loaded.prompts
    }
    assert too_similar(own) == []


def text_of(prompt: Prompt) -> str:
    return "\n".join(message.content for message in prompt.messages)


def test_similarity_finds_what_is_alike() -> None:
    words = [str(number) for number in range(100)]
    texts = {"a": " ".join(words), "b": " ".join([*words[:-3], "x", "y", "z"]), "c": " ".join(words[:60]), "d": "0 1 2"}
    assert too_similar(texts) == [("a", "b")]

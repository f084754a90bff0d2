"""The pack that comes with latbench is what it promises: its manifest, its spread, its answers, and no prompt twice.

What looks for faults is a function of prompts or texts that gives the faults it found, so that a test beside it can
show that it finds one.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from latbench.model.request import Prompt
from latbench.scenario import manifest
from latbench.scenario.files import read_yaml
from latbench.scenario.prompts import PromptSet, load_prompts
from latbench.scenario.schema import PromptSettings

PACK = Path(__file__).parents[2] / "scenarios" / "code-mix"
SHARE = re.compile(r"^\| (\S+) \| (\d+) % \|$", re.MULTILINE)  # a row of the README's table of input lengths
CONTEXT_FILE = re.compile(r"^File: (context/\S+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def loaded() -> PromptSet:
    return load_prompts(PromptSettings(path=str(PACK)), Path())


@pytest.fixture(scope="module")
def written() -> dict[str, dict[str, Any]]:
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


def off_the_table(lengths: Iterable[int], stated: Mapping[str, int], slack: int = 5) -> dict[str, float]:
    """The bins whose share is more than `slack` percentage points from what is stated, with the share they have."""
    bins = Counter(manifest.length_bin(length) for length in lengths)
    shares = {name: 100 * bins[name] / bins.total() for name in bins.keys() | stated.keys()}
    return {name: share for name, share in shares.items() if abs(share - stated.get(name, 0)) > slack}


def test_lengths_are_spread_as_the_readme_says(loaded: PromptSet) -> None:
    stated = {name: int(share) for name, share in SHARE.findall((PACK / "README.md").read_text(encoding="utf-8"))}
    assert list(stated) == [name for _, name in manifest.LENGTH_BINS]
    assert sum(stated.values()) == 100
    assert off_the_table((prompt.tokens for prompt in loaded.prompts), stated) == {}


def test_a_bin_that_is_off_is_found() -> None:
    stated = {"0-500": 50, "500-2k": 50}
    assert off_the_table([100] * 54 + [600] * 46, stated) == {}
    assert off_the_table([100] * 56 + [600] * 44, stated) == {"0-500": 56, "500-2k": 44}
    assert off_the_table([100] * 47 + [600] * 47 + [9000] * 6, stated) == {"8k-16k": 6}


def test_every_context_file_is_used(loaded: PromptSet) -> None:
    used = {name for prompt in loaded.prompts for name in CONTEXT_FILE.findall(text_of(prompt))}
    assert used == set(read_yaml(PACK / "manifest.yaml").data["context_files"])


def has_word(name: str, text: str) -> bool:
    """Whether the name stands in the text by itself, not as part of a longer one."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def faults_of(prompt: Prompt, item: Mapping[str, Any], sources: Mapping[str, str]) -> list[str]:
    """What is wrong with the answer that a prompt expects. `sources` are the texts of the context files."""
    expect = prompt.expect or {}
    faults = [f"no such kind of answer: {kind}" for kind in expect if kind not in ("location", "finding")]
    wanted = {"search": "location", "review": "finding", "debug": "finding"}.get(prompt.task)
    if wanted is not None and wanted not in expect:
        faults.append(f"{wanted} is missing")
    for kind, answer in expect.items():
        file, symbol = answer.get("file"), answer.get("symbol")
        if file is not None and file not in item.get("context_files", []):
            faults.append(f"{kind}.file is not among the context files: {file}")
        if symbol is not None and not has_word(symbol, text_of(prompt)):
            faults.append(f"{kind}.symbol is not in the prompt: {symbol}")
        if file in sources and symbol is not None and not has_word(symbol, sources[file]):
            faults.append(f"{kind}.symbol is not in {file}: {symbol}")
        if kind == "finding" and not answer.get("words"):
            faults.append("finding.words is missing")
        if kind == "location" and (file is None or symbol is None):
            faults.append("location needs file and symbol")
        if kind == "location" and symbol is not None and has_word(symbol, str(item["prompt"])):
            faults.append(f"the question gives the answer away: {symbol}")
    return faults


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """The context files by their names."""
    files = (path for path in (PACK / "context").rglob("*") if path.is_file())
    return {path.relative_to(PACK).as_posix(): path.read_text(encoding="utf-8") for path in files}


def test_every_expected_answer_is_there_to_be_found(
    loaded: PromptSet, written: dict[str, dict[str, Any]], sources: dict[str, str]
) -> None:
    faults = {prompt.id: faults_of(prompt, written[prompt.id], sources) for prompt in loaded.prompts}
    assert {key: found for key, found in faults.items() if found} == {}


@pytest.mark.parametrize(
    ("task", "kind", "answer", "fault"),
    [
        ("search", "location", {}, None),
        ("search", "location", {"file": "context/telemetry/retry.rs"}, "not among the context files"),
        ("search", "location", {"symbol": "stake_clai"}, "not in the prompt"),
        ("search", "location", {"symbol": "worker"}, "gives the answer away"),
        ("search", "location", {"symbol": None}, "needs file and symbol"),
        ("search", "finding", {}, "location is missing"),
        ("review", "finding", {}, None),
        ("review", "finding", {"file": "context/telemetry/retry.rs"}, "not among the context files"),
        ("review", "finding", {"symbol": "persist"}, "not in the prompt"),
        ("review", "finding", {"symbol": "autoscaler"}, None),
        ("review", "finding", {"symbol": "yesterday"}, "not in context/platform/notify_dispatch.py"),
        ("review", "finding", {"words": []}, "words is missing"),
        ("debug", "location", {}, "finding is missing"),
        ("review", "places", {}, "no such kind of answer"),
    ],
)
def test_an_expected_answer_that_is_not_there_is_found(
    loaded: PromptSet,
    sources: dict[str, str],
    task: str,
    kind: str,
    answer: dict[str, Any],
    fault: str | None,
) -> None:
    file = "context/platform/notify_dispatch.py"
    question = "why did yesterday's worker mail twice?"
    right = {"file": file, "symbol": "stake_claim", "words": ["lease"]}
    prompt = msgspec.structs.replace(
        next(prompt for prompt in loaded.prompts if prompt.id == "sea-py-notify-twice"),
        task=task,
        expect={kind: right | answer},
    )
    prompt = msgspec.structs.replace(
        prompt, messages=tuple(msgspec.structs.replace(m, content=m.content + question) for m in prompt.messages)
    )
    faults = faults_of(prompt, {"context_files": [file], "prompt": question}, sources)
    assert bool(faults) == (fault is not None), faults
    assert fault is None or any(fault in found for found in faults), faults


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


def test_no_two_prompts_are_alike_in_their_own_words(loaded: PromptSet, written: dict[str, dict[str, Any]]) -> None:
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

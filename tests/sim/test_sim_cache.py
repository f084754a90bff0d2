"""The model of a prompt cache."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.sim import cache
from latbench.sim.cache import PromptCache

TTL_NS = 300 * 10**9
LONG = bytes(range(256)) * 40  # 10,240 bytes: 2,560 tokens, 20 blocks


def test_what_was_seen_is_cached_in_whole_blocks() -> None:
    prompts = PromptCache(TTL_NS)
    assert prompts.look("key", LONG, 0) == (0, 2560)
    assert prompts.look("key", LONG, 1) == (2560, 0)
    assert prompts.look("key", LONG + b"more", 2) == (2560, 0)
    assert prompts.look("key", LONG + b"m" * 512, 3) == (2560, 128)
    assert prompts.look("key", LONG[:5000], 4) == (1152, 0)  # 1250 tokens: nine blocks


def test_only_a_beginning_counts() -> None:
    prompts = PromptCache(TTL_NS)
    prompts.look("key", LONG, 0)
    assert prompts.look("key", b"x" + LONG, 0)[0] == 0
    assert prompts.look("key", LONG[:6000] + b"other" * 1000, 0)[0] == 1408  # 1500 tokens are the same


def test_less_than_1024_tokens_are_never_cached() -> None:
    prompts = PromptCache(TTL_NS)
    for size, expected in ((4095, 0), (4096, 1024)):
        prompts.look("key", LONG[:size], 0)
        assert prompts.look("key", LONG[:size], 0) == (expected, 0)
    prompts.clear()
    prompts.look("key", LONG, 0)
    assert prompts.look("key", LONG[:4095] + b"\x00" * 5000, 0)[0] == 0


def test_scopes_share_nothing() -> None:
    prompts = PromptCache(TTL_NS)
    prompts.look("one", LONG, 0)
    assert prompts.look("other", LONG, 0) == (0, 2560)


def test_use_keeps_it_and_time_loses_it() -> None:
    prompts = PromptCache(TTL_NS)
    prompts.look("key", LONG, 0)
    assert prompts.look("key", LONG, TTL_NS - 1)[0] == 2560
    assert prompts.look("key", LONG, 2 * TTL_NS - 2)[0] == 2560
    assert prompts.look("key", LONG, 3 * TTL_NS - 2) == (0, 2560)


def test_without_a_lifetime_there_is_no_cache() -> None:
    prompts = PromptCache(0)
    assert [prompts.look("key", LONG, 0) for _ in range(2)] == [(0, 0)] * 2


def test_clear_forgets() -> None:
    prompts = PromptCache(TTL_NS)
    prompts.look("key", LONG, 0)
    prompts.clear()
    assert prompts.look("key", LONG, 0)[0] == 0


def test_what_was_used_longest_ago_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_MOST_BLOCKS", 20)
    prompts = PromptCache(TTL_NS)
    prompts.look("one", LONG[:5120], 0)
    prompts.look("two", LONG, 0)  # 13 blocks: with the three of the first 16
    assert prompts.look("one", LONG[:5120], 1)[0] == 1280
    prompts.look("three", LONG, 1)
    assert prompts.look("one", LONG[:5120], 2)[0] == 1280
    assert prompts.look("two", LONG, 2)[0] == 0


@given(st.lists(st.binary(max_size=6000), max_size=6))
def test_counts_keep_within_the_prompt(prompts: list[bytes]) -> None:
    found = PromptCache(TTL_NS)
    for prompt in prompts:
        cached, written = found.look("key", prompt, 0)
        assert cached >= 0
        assert written >= 0
        assert (cached + written) * 4 <= len(prompt)
        assert found.look("key", prompt, 0) == (cached + written, 0)

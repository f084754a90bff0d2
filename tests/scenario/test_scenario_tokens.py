"""Token counts with no network, from files that were checked."""

import gzip
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken_ext import openai_public

from latbench.model.errors import UserError
from latbench.needle import counting
from latbench.scenario import tokens

TEXT = "Hello, world! 12345 naïve café 你好 🙂"


@pytest.fixture(autouse=True)
def _not_loaded() -> Iterator[None]:
    """Encodings that have not been loaded yet."""
    tokens.encoding.cache_clear()
    yield
    tokens.encoding.cache_clear()


@pytest.fixture
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a token count opened a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def fake_package(folder: Path, monkeypatch: pytest.MonkeyPatch, data: bytes | None) -> None:
    """A package on the path whose rank file holds `data`."""
    (folder / "otherranks" / "data").mkdir(parents=True)
    (folder / "otherranks" / "__init__.py").touch()
    if data is not None:
        (folder / "otherranks" / "data" / "o200k_base.tiktoken.gz").write_bytes(data)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(tokens, "_PACKAGE", "otherranks")


@pytest.mark.usefixtures("_no_network")
def test_counts_are_those_of_tiktoken() -> None:
    assert tokens.encoding("o200k_base").encode_ordinary(TEXT)[:5] == [13225, 11, 2375, 0, 220]
    assert (tokens.count(TEXT), tokens.count(TEXT, "cl100k_base")) == (13, 14)
    assert tokens.count("") == 0
    assert tokens.count("<|endoftext|>") > 1


@pytest.mark.usefixtures("_no_network")
def test_nothing_is_written_and_tiktoken_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    loads = openai_public.load_tiktoken_bpe
    assert tokens.encoding(tokens.UNIT).n_vocab == 200_019
    assert openai_public.load_tiktoken_bpe is loads
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["o200k_base", "cl100k_base"])
def test_a_rank_is_the_number_of_lines_before_it(name: str) -> None:
    """Of the files whose hashes are known."""
    lines = [line.split() for line in tokens._shipped(name).splitlines()]
    assert [int(rank) for _, rank in lines] == list(range(len(lines)))
    assert tokens._ranks(b"\n".join(b" ".join(line) for line in lines[:3])) == {b"!": 0, b'"': 1, b"#": 2}


def test_an_encoding_is_made_once() -> None:
    """Half a second of a core: whoever counts shares what somebody has loaded ahead."""
    ahead = tokens.encoding(tokens.UNIT)
    assert tokens.count("one two") == 2 == counting.tokens("one two")
    assert tokens.encoding(tokens.UNIT) is ahead
    assert tokens.encoding.cache_info().misses == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(b"IQ== 0\n"), "not the file that tiktoken expects"),
        (b"not gzip", "cannot be read"),
        (gzip.compress(b"IQ== 0\n" * 999)[:30], "cannot be read"),
        (None, "cannot be read"),
    ],
    ids=["other file", "not gzip", "cut", "absent"],  # the time stands in what gzip makes
)
@pytest.mark.usefixtures("_no_network")
def test_what_does_not_match_is_never_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes | None, message: str
) -> None:
    fake_package(tmp_path / "site", monkeypatch, data)
    with pytest.raises(UserError, match=f"{message}.*install otherranks again"):
        tokens.count(TEXT)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"the package no_such_package, which holds .* install it"):
        tokens.count(TEXT)


def test_an_unknown_encoding_is_an_error() -> None:
    with pytest.raises(UserError, match='no encoding "p50k_base"; there are: cl100k_base, o200k_base'):
        tokens.encoding("p50k_base")


word = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)


@settings(deadline=None, max_examples=50)
@given(st.lists(word, min_size=1, max_size=8), st.integers(0, 6000))
def test_pieces_make_the_whole_and_change_no_count(words: list[str], times: int) -> None:
    text = " ".join(words) + (" " + " ".join(words)) * min(times, 60_000 // (sum(map(len, words)) + 8))
    cut = list(tokens.pieces(text))
    assert "".join(cut) == text
    assert all(0 < len(piece) <= 20_000 for piece in cut)
    if all(piece.startswith(" ") for piece in cut[1:]):
        assert tokens.count(text) == len(tokens.encoding(tokens.UNIT).encode_ordinary(text))


def test_a_long_run_without_spaces_is_cut_too() -> None:
    assert [len(piece) for piece in tokens.pieces("a" * 45_000)] == [20_000, 20_000, 5_000]
    assert tokens.count("a" * 400_000) == 50_000

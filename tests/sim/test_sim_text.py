"""The made-up code."""

from itertools import islice

from latbench.sim.text import pieces


def _first(seed: int, request: int, count: int = 400) -> list[str]:
    return list(islice(pieces(seed, request), count))


def test_the_same_request_gets_the_same_text() -> None:
    assert _first(1, 2) == _first(1, 2)


def test_requests_and_seeds_differ_from_the_first_line_on() -> None:
    texts = {"".join(_first(seed, request, 30)) for seed in range(3) for request in range(50)}
    assert len(texts) == 150


def test_every_piece_is_text_and_no_word_is_left_out() -> None:
    found = _first(0, 0, 5000)
    assert all(found)
    assert not any("{" in piece or "}" in piece or "|" in piece for piece in found)
    assert "".join(found).startswith("\n\ndef ")


def test_some_pieces_have_characters_of_several_bytes() -> None:
    assert any(not piece.isascii() for piece in _first(0, 0, 2000))

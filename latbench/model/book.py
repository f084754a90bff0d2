"""The prompts of a needle run in a file of this machine: made before the load, read one at a time when they are due.

All of them together may be hundreds of megabytes, so that they are neither part of a job nor kept in memory: the parent
writes, engines read the messages of what they are about to send, workers what they grade answers against. Where a page
stands is in an index beside the pages, in the order in which trials are sent.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec

from latbench.model.request import Message

_PAGES, _INDEX = "pages", "index"


class Page(msgspec.Struct, frozen=True, array_like=True):
    """Where a trial stands: its messages from `at` on, what belongs to its grading after them."""

    at: int
    messages_bytes: int
    notes_bytes: int


_encoder = msgspec.msgpack.Encoder()
_messages: msgspec.msgpack.Decoder[tuple[Message, ...]] = msgspec.msgpack.Decoder(tuple[Message, ...])
_index: msgspec.msgpack.Decoder[list[Page]] = msgspec.msgpack.Decoder(list[Page])


class BookWriter:
    """Writes the book in `folder`, which is there and empty. Pages may come in any order."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._index = [Page(0, 0, 0)] * count
        self._at = 0
        self._file: IO[bytes] = (folder / _PAGES).open("wb")

    def add(self, number: int, messages: bytes, notes: bytes) -> None:
        """Page `number`, from 0 on: messages as `encode_messages` has them, and whatever grading wants to know."""
        self._file.write(messages + notes)
        self._index[number] = Page(self._at, len(messages), len(notes))
        self._at += len(messages) + len(notes)

    def close(self) -> None:
        """All pages are there: the book can be read."""
        self._file.close()
        (self._folder / _INDEX).write_bytes(_encoder.encode(self._index))


class Book:
    """Reads a book. Raises OSError where it is not there (any more)."""

    def __init__(self, folder: Path) -> None:
        self._index = _index.decode((folder / _INDEX).read_bytes())
        self._file = os.open(folder / _PAGES, os.O_RDONLY | os.O_CLOEXEC)

    def __len__(self) -> int:
        return len(self._index)

    def messages(self, number: int) -> tuple[Message, ...]:
        """The prompt of a page."""
        page = self._index[number]
        return _messages.decode(os.pread(self._file, page.messages_bytes, page.at))

    def notes(self, number: int) -> bytes:
        """What belongs to the grading of a page."""
        page = self._index[number]
        return os.pread(self._file, page.notes_bytes, page.at + page.messages_bytes)

    def close(self) -> None:
        """Nothing more is read."""
        os.close(self._file)


def encode_messages(messages: Sequence[Message]) -> bytes:
    """Messages as a page holds them."""
    return _encoder.encode(messages)

"""Models that answer needle trials: what they read of a prompt, and what they say then.

Which trial a prompt is, is told by its nonce; what is right and wrong there stands in a file of answers, one JSON
object a line. Nothing of latbench's own needle room is used: the endpoint must not share its mistakes. A model says
the right answer only if every line that bears it stands, whole, in what the model has read. Otherwise it says that
there is nothing, as prompts ask of it. Draws are keyed by nonce: the same trial gets the same answer, whatever the
order in which trials come.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import msgspec

from latbench.sim import draws
from latbench.sim.dialects.fields import tokens

PERFECT, RANDOM, BLIND, HEAD_TRUNCATED = "perfect", "random", "blind", "head-truncated"
PREFIX_CACHE, BAD_FORMAT = "prefix-cache", "bad-format"
MODELS = (PERFECT, RANDOM, BLIND, HEAD_TRUNCATED, PREFIX_CACHE, BAD_FORMAT)

_BYTES_PER_TOKEN = 4
_CACHE_BLOCK = 128
_OPENING_BYTES = 1024
_WORD = re.compile(rb"[0-9A-Za-z_-]{8,64}")
_SHARE = r"(\d{1,3}(?:\.\d{1,3})?)"
_PART = re.compile(rf"{_SHARE}-{_SHARE}%")
_RULE = re.compile(rf"\s*(?:{_SHARE}-{_SHARE}%)?(?:@(\d{{1,9}}))?=(\d(?:\.\d{{1,6}})?)\s*")
_MISREAD, _CHOICE = 0, 1


class Known(msgspec.Struct, frozen=True):
    """What is known of a trial. `line` bears the answer, as it stands in the prompt; several lines all have to be read,
    and there is none where nothing is to be found. `right`, `wrong` and `absent` are whole replies.

    `depth` is where the line stands, as a share of the code, `length` the tokens that were asked for.
    """

    nonce: str
    line: str | list[str] | None
    right: str
    wrong: list[str]
    absent: str
    depth: float
    length: int

    @property
    def lines(self) -> list[bytes]:
        """The lines that all have to be read."""
        found = [self.line] if isinstance(self.line, str) else self.line or []
        return [line.encode("utf-8", "surrogatepass") for line in found]


@dataclass(frozen=True, slots=True)
class Reader:
    """How trials are answered.

    `accuracy` is as `accuracies` reads it, `blind` as `part` does; `keep_tokens` are left of a prompt whose head is cut
    off. `silent`: the usage says nothing of what was cut off or cached.
    """

    model: str
    accuracy: str
    blind: str
    keep_tokens: int
    silent: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Told:
    """The answer to a trial: its text, what it is worth (`right`, `wrong`, `absent`, `bad_format`), and three counts.

    `counted_tokens` and `cached_tokens` are what the usage says of the prompt, `computed_tokens` what really has to be
    read before the first token.
    """

    text: str
    worth: str
    counted_tokens: int
    cached_tokens: int
    computed_tokens: int


class AnswerBook:
    """The answers of a file, which is read anew when it has changed and a prompt has an unknown nonce."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError for what is no answer, OSError for what cannot be read."""
        self._path = path
        self._version = (0, 0)
        self._known: dict[bytes, Known] = {}
        self._refresh()

    def find(self, prompt: bytes) -> Known | None:
        """The trial that a prompt is, by the nonce in its first kilobyte. Raises as the constructor does."""
        words = _WORD.findall(prompt[:_OPENING_BYTES])
        found = self._among(words)
        if found is None:
            with suppress(FileNotFoundError):  # with whoever wrote it: what is known stays known
                found = self._among(words) if self._refresh() else None
        return found

    def _among(self, words: Sequence[bytes]) -> Known | None:
        return next((self._known[word] for word in words if word in self._known), None)

    def _refresh(self) -> bool:
        """Whether there was something new. A last line without its end is still being written, and left for later."""
        with self._path.open("rb") as file:
            status = os.fstat(file.fileno())
            version = (status.st_mtime_ns, status.st_size)
            if version == self._version:
                return False
            whole, _, _ = file.read().rpartition(b"\n")
        self._known = {one.nonce.encode("utf-8", "surrogatepass"): one for one in self._read(whole)}
        self._version = version
        return True

    def _read(self, text: bytes) -> Iterator[Known]:
        decoder = msgspec.json.Decoder(Known)
        for number, line in enumerate(text.split(b"\n"), 1):
            if line.strip():
                try:
                    yield decoder.decode(line)
                except msgspec.DecodeError as error:
                    raise ValueError(f"{self._path}, line {number}: no answer to a needle trial: {error}") from None


def answer(known: Known, prompt: bytes, reader: Reader) -> Told:
    """What a model says to a trial. Raises ValueError where `accuracy` or `blind` are not understood."""
    read = _read(prompt, reader)
    text, worth = _said(known, read, reader)
    counted, sent = tokens(read), tokens(prompt)
    if reader.model == PREFIX_CACHE:
        cached = _cached(known, prompt)
        return Told(text, worth, sent, 0 if reader.silent else cached, sent - cached)
    shown = counted if reader.model == HEAD_TRUNCATED and not reader.silent else sent
    return Told(text, worth, shown, 0, counted)


def _read(prompt: bytes, reader: Reader) -> bytes:
    """The part of a prompt that a model sees."""
    if reader.model == HEAD_TRUNCATED:
        return prompt[-reader.keep_tokens * _BYTES_PER_TOKEN :]
    if reader.model == BLIND:
        low, high = part(reader.blind)
        return prompt[: int(low * len(prompt))] + b"\0" + prompt[int(high * len(prompt)) :]
    return prompt


def _said(known: Known, read: bytes, reader: Reader) -> tuple[str, str]:
    """The reply, and its worth."""
    key = _key(known, reader)
    if reader.model == RANDOM:
        choices = [*known.wrong, known.right] if known.line is not None else known.wrong
        if not choices:
            return known.absent, "absent"
        chosen = choices[draws.integer(key, _CHOICE) % len(choices)]
        return chosen, "right" if chosen == known.right else "wrong"
    if draws.uniform(key, _MISREAD) >= accuracy(reader.accuracy, known.depth, known.length):
        if known.wrong:
            return known.wrong[draws.integer(key, _CHOICE) % len(known.wrong)], "wrong"
        return known.absent, "absent"
    found = bool(known.lines) and all(_stands(line, read) for line in known.lines)
    reply = known.right if found else known.absent
    if reader.model == BAD_FORMAT:
        return f"Having read it all I would say: {_without_marker(reply)} Nothing else fits.", "bad_format"
    return reply, "right" if found else "absent"


def _key(known: Known, reader: Reader) -> int:
    digest = blake2b(known.nonce.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return draws.stream_key(reader.seed, int.from_bytes(digest), 0)


def _stands(line: bytes, text: bytes) -> bool:
    """Whether a text has this line whole, and not as a part of another one."""
    return b"\n" + line + b"\n" in b"\n" + text.replace(b"\r\n", b"\n") + b"\n"


def _without_marker(reply: str) -> str:
    """A reply whose marker (`ANSWER:`) is left out: what a model says that does not keep to the form."""
    _, colon, rest = reply.partition(":")
    return (rest if colon else reply).strip()


def _cached(known: Known, prompt: bytes) -> int:
    """Tokens that a cache has of a prompt which was swept over depth with one haystack: all before the needle."""
    places = [at for line in known.lines if (at := prompt.find(line)) >= 0]
    before = min(places, default=int(known.depth * len(prompt))) // _BYTES_PER_TOKEN
    return before - before % _CACHE_BLOCK


def part(text: str) -> tuple[float, float]:
    """`40-60%` as shares. Raises ValueError for anything else."""
    match = _PART.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a part of the prompt, as in 40-60%")
    return _ends(match[1], match[2], text)


def _ends(low: str, high: str, text: str) -> tuple[float, float]:
    ends = float(low) / 100, float(high) / 100
    if not ends[0] < ends[1] <= 1:
        raise ValueError(f"{text[:40]!r}: the part has to end after it begins, and at 100% at the most")
    return ends


@dataclass(frozen=True, slots=True)
class Rule:
    """An accuracy from `low` to `high` (shares of the code) in prompts of `length` tokens or more."""

    low: float
    high: float
    length: int
    share: float


def accuracies(text: str) -> tuple[Rule, ...]:
    """`0.95,40-60%=0.5,@32000=0.3,40-60%@32000=0`: shares of right answers, by depth and from a length on.

    Where several hold, the last one counts; where none does, all is right. Raises ValueError for anything else.
    """
    return tuple(_rule(one) for one in text.split(","))


def _rule(text: str) -> Rule:
    match = _RULE.fullmatch(text if "=" in text else f"={text.strip()}")
    if match is None:
        raise ValueError(f"{text[:40]!r} is not an accuracy, as in 0.95 or 40-60%=0.5 or 40-60%@32000=0.5")
    low, high = (0.0, 1.0) if match[1] is None else _ends(match[1], match[2], text)
    share = float(match[4])
    if share > 1:
        raise ValueError(f"{text[:40]!r}: an accuracy is from 0 to 1")
    return Rule(low, high, int(match[3] or 0), share)


def accuracy(text: str, depth: float, length: int) -> float:
    """What `accuracies` says of one depth and length. Raises as it does."""
    share = 1.0
    for rule in accuracies(text):
        if rule.low <= depth <= rule.high and length >= rule.length:
            share = rule.share
    return share

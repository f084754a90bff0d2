"""Trials as the pages of a book (`model/book.py`), and what workers do with them: read answers, and grade them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from latbench.model.book import Book, encode_messages
from latbench.model.frames import Job
from latbench.model.sample import Sample
from latbench.needle.grade import grade
from latbench.needle.trial import Trial
from latbench.scenario.grading import Reader

ANSWER_CHARS = 4_000
"""How much of an answer's text is kept beside its grade."""

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[tuple[Trial, int, int]] = msgspec.msgpack.Decoder(tuple[Trial, int, int])


def page_of(trial: Trial) -> tuple[bytes, bytes]:
    """A trial as a page: its messages, and all the rest of it without saying the code twice."""
    last = trial.messages[-1].content
    at = last.find(trial.code) if trial.code else 0
    bare = msgspec.structs.replace(trial, messages=(), code="")
    return encode_messages(trial.messages), _encoder.encode((bare, at, len(trial.code)))


def trial_of(book: Book, number: int) -> Trial:
    """The trial of a page, as it was."""
    trial, at, length = _decoder.decode(book.notes(number))
    messages = book.messages(number)
    return msgspec.structs.replace(trial, messages=messages, code=messages[-1].content[at : at + length])


class NeedleReader:
    """Reads the answers of a needle run, each once: tokens as of any answer, then the grade. The text stays, capped.

    `trial` gives the trial of a prompt, None for what is none.
    """

    def __init__(self, reader: Reader, trial: Callable[[str], Trial | None]) -> None:
        self._reader = reader
        self._trial = trial

    def read(self, sample: Sample) -> None:
        """Count and grade. What has only begun is left as it is, and what was graded before."""
        text = sample.text
        self._reader.read(sample)
        if sample.done_ns is None or sample.grade is not None:
            return
        trial = self._trial(sample.prompt_id)
        if trial is not None:
            sample.text = text
            sample.grade = grade(sample, trial)
            sample.text = None if text is None else text[:ANSWER_CHARS]


def from_book(book: Book, numbers: Mapping[str, int]) -> Callable[[str], Trial | None]:
    """The trials of a book, by the id of their prompt."""

    def trial(prompt_id: str) -> Trial | None:
        number = numbers.get(prompt_id)
        return None if number is None else trial_of(book, number)

    return trial


def reader_of(job: Job) -> Reader | NeedleReader:
    """Who reads the answers of a job."""
    reader = Reader(job.schema, job.prompts)
    if not job.book:
        return reader
    numbers = {prompt.id: number for number, prompt in enumerate(job.prompts)}
    return NeedleReader(reader, from_book(Book(Path(job.book)), numbers))

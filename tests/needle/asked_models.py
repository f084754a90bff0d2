"""Trials asked of the simulated models over real sockets by a plain client, graded, and what the analysis says of them.

Only making and grading trials and the analysis are latbench's here; the client is the standard library's, and the
endpoint counts for itself.
"""

import http.client
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import Served

from latbench.analysis.needle.findings import Findings, findings
from latbench.analysis.needle.trials import TrialRow, Trials, columns
from latbench.model.sample import Outcome, Sample
from latbench.needle.build import Builder
from latbench.needle.grade import grade
from latbench.needle.grid import Grid, rounds
from latbench.needle.haystack import Generated
from latbench.needle.replies import encoded
from latbench.needle.rows import row
from latbench.needle.trial import Trial

CLIENTS = 24
_BYTES_PER_TOKEN = 4  # as the endpoint counts


def made(grid: Grid, run_id: str = "models") -> list[Trial]:
    """The trials of a grid, in the order in which they are sent."""
    builder = Builder(Generated())
    return [builder.build(recipe) for one in rounds(grid, run_id) for recipe in one.recipes]


def write_answers(path: Path, trials: Iterable[Trial]) -> Path:
    """What the simulated endpoint has to know of them."""
    path.write_bytes(b"".join(map(encoded, trials)))
    return path


# --- asking -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """One trial, and the sample and row that came of it."""

    trial: Trial
    sample: Sample
    row: TrialRow


def ask(served: Served, trials: Sequence[Trial], **options: str) -> list[Asked]:
    """Asks for all of them, some at a time; `options` are those of `latbench sim`, for these requests."""
    headers = {"content-type": "application/json"} | {
        f"x-sim-{name.replace('_', '-')}": value for name, value in options.items()
    }
    with ThreadPoolExecutor(CLIENTS) as pool:
        samples = pool.map(lambda numbered: _sample(served.port, *numbered, headers), enumerate(trials))
        return [_asked(trial, sample) for trial, sample in zip(trials, samples, strict=True)]


def _sample(port: int, number: int, trial: Trial, headers: Mapping[str, str]) -> Sample:
    body = {
        "model": "m",
        "messages": [{"role": message.role, "content": message.content} for message in trial.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 400,
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        sent_ns = time.monotonic_ns()
        connection.request("POST", "/v1/chat/completions", json.dumps(body).encode(), dict(headers))
        response = connection.getresponse()
        assert response.status == 200, response.read()
        text, first_ns, usage = "", None, {}
        for event in _events(response):
            usage = event.get("usage") or usage
            piece = event["choices"][0]["delta"].get("content") if event["choices"] else None
            if piece:
                first_ns = first_ns or time.monotonic_ns()
                text += piece
    finally:
        connection.close()
    return Sample(
        "sim", 0, number, trial.recipe.trial, "measure", Outcome.OK, finish_reason="stop", text=text,
        text_chars=len(text), sent_ns=sent_ns, first_token_ns=first_ns, token_source="usage",
        input_tokens=usage["prompt_tokens"], cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
    )  # fmt: skip


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    for line in response:
        data = line.removeprefix(b"data: ").strip()
        if data and data != b"[DONE]":
            yield json.loads(data)


def _asked(trial: Trial, sample: Sample) -> Asked:
    sent = sum(len(message.content.encode()) for message in trial.messages) / _BYTES_PER_TOKEN
    found = row(trial.recipe, trial.depth, trial.key.chance, grade(sample, trial, sent), sample, sent)
    return Asked(trial, sample, found)


def table(asked: Iterable[Asked]) -> Trials:
    """As columns."""
    return columns(one.row for one in asked)


def judged(asked: Iterable[Asked]) -> Findings:
    """What the analysis says of them."""
    return findings(table(asked), seed=1)

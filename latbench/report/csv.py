"""Samples as CSV, one row each, for spreadsheets and data frames.

Stamps are nanoseconds since the start of the run; metrics are given for `ok` samples only, as in every report. An empty
cell is what is not known. Text that a spreadsheet would take for a formula gets an apostrophe in front.
"""

import csv
from collections.abc import Iterable, Mapping
from typing import TextIO

from latbench.analysis.groups import PromptInfo
from latbench.metrics.catalogue import METRICS
from latbench.model.sample import Outcome, Sample
from latbench.report.text import clean

_FIELDS = (
    *("endpoint", "step", "seq", "prompt_id", "phase", "outcome", "worker", "slot"),
    *("due_ns", "sent_ns", "connected_ns", "headers_ns", "first_byte_ns"),
    *("first_token_ns", "first_text_ns", "last_token_ns", "done_ns"),
    *("chunks", "input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "token_source"),
    *("reasoning_streamed", "status", "kind", "error_code", "error_message", "wait_ns", "finish_reason"),
    *("request_id", "model", "fingerprint", "nonce", "output_mode", "new_connection", "reconnects"),
    *("text_chars", "text_sha256", "key_index", "waited_ns", "reference_tokens", "valid", "met"),
    *("tool_calls", "tools_parallel_ns", "tools_sequential_ns"),
)
_METRICS = tuple(metric for metric in METRICS if metric.of is not None)

HEADER = (*_FIELDS, "task", "language", "prompt_tokens", *(metric.json_name for metric in _METRICS))


def render(samples: Iterable[Sample], prompts: Mapping[str, PromptInfo], out: TextIO) -> None:
    """Write the head and a row for each sample, in their order."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    for sample in samples:
        writer.writerow([_cell(value) for value in _row(sample, prompts.get(sample.prompt_id))])


def _row(sample: Sample, prompt: PromptInfo | None) -> list[str | float | None]:
    row: list[str | float | None] = [getattr(sample, name) for name in _FIELDS]
    row += (None, None, None) if prompt is None else (prompt.task, prompt.language, prompt.tokens)
    for metric in _METRICS:
        value = metric.of(sample) if metric.of is not None and sample.outcome == Outcome.OK else None
        row.append(None if value is None else value / metric.scale)
    return row


def _cell(value: str | float | None) -> str | float:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = clean(value)
        return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") else text
    return value

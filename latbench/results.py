"""From the store to the summary: what `run` does at its end and `report` at any time after. Imports no Locust."""

from collections.abc import Mapping
from io import StringIO
from typing import Any

from latbench.analysis.groups import PromptInfo
from latbench.analysis.summary import summarise
from latbench.model.run import RunRecord
from latbench.report import json as json_report
from latbench.report import markdown
from latbench.store.manifest import REPORT, SUMMARY, RunDirectory
from latbench.store.sqlite import Store


def prompts_of(store: Store, record: RunRecord) -> dict[str, PromptInfo]:
    """What slicing needs to know of a stored run's prompts, by id."""
    return {
        prompt.id: PromptInfo(prompt.task, prompt.language, prompt.tags, prompt.tokens, prompt.sha256)
        for prompt in store.prompts(record.id)
    }


def summary_of(store: Store, record: RunRecord) -> dict[str, Any]:
    """The summary of a stored run, made from its samples."""
    return summarise(record, store.samples(record.id), prompts_of(store, record))


def write_reports(directory: RunDirectory, summary: Mapping[str, Any]) -> None:
    """Write what people pass on: the summary and the report. Raises StoreError where the disk fails."""
    for name, render in ((SUMMARY, json_report.render), (REPORT, markdown.render)):
        text = StringIO()
        render(summary, text)
        directory.write_atomic(name, text.getvalue())

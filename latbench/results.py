"""From the store to the summary: what `run` does at its end and `report` at any time after. Imports no Locust."""

from typing import Any

from latbench.analysis.summary import PromptInfo, summarise
from latbench.model.run import RunRecord
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

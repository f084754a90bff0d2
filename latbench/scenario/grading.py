"""What the worker reads an answer for: tokens, a schema, what the prompt expects. After that nobody needs its text.

Grading needs no judge and runs nothing. What satisfies a schema is told in `json_schema.py`.

An `expect` that is scored is `finding: {symbol, words, file}`: the answer has to name the symbol (as a word of its
own), the file (its name is enough) and at least one of the words, whatever their case. Any other is kept, not scored.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import Any

from latbench.model.request import TEXT, Prompt
from latbench.model.sample import Outcome, Sample
from latbench.scenario.tokens import count

DEFAULT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "summary": {"type": "string", "description": "The answer in one or two sentences."},
        "code": {"type": "string", "description": "The code, complete, without fences; empty where none is asked for."},
    },
    "required": ["summary", "code"],
    "additionalProperties": False,
}
"""What is asked for where the scenario gives no schema: fits any prompt about code."""

Check = Callable[[str], bool]


class Reader:
    """Reads the answers of a run, each once."""

    def __init__(self, schema: Mapping[str, Any], prompts: Iterable[Prompt]) -> None:
        """`schema` has been checked (`check_schema`)."""
        self._schema = schema
        self._meets = {prompt.id: check for prompt in prompts if (check := expectation(prompt.expect)) is not None}

    def read(self, sample: Sample) -> None:
        """Count, grade, and forget the text."""
        text, sample.text = sample.text, None
        if sample.outcome != Outcome.OK:
            return
        structured = sample.output_mode != TEXT
        if text is not None and sample.text_chars:
            sample.reference_tokens = count(text)
            if sample.token_source == "tokenizer":
                sample.output_tokens = sample.reference_tokens
        if structured:
            sample.valid = text is not None and self._satisfies(text)
        elif sample.tools_sequential_ns is not None:
            return  # the loop goes on: this is no answer yet
        elif (meets := self._meets.get(sample.prompt_id)) is not None:
            sample.met = text is not None and meets(text)

    @cached_property
    def _satisfies(self) -> Check:
        from latbench.scenario.json_schema import schema_check  # see there

        return schema_check(self._schema)


def expectation(expect: object) -> Check | None:
    """Whether a text is what a prompt expects; None where that cannot be scored."""
    finding = expect.get("finding") if isinstance(expect, Mapping) else None
    if not isinstance(finding, Mapping) or not set(finding) <= {"symbol", "words", "file"}:
        return None
    symbol, file, words = finding.get("symbol"), finding.get("file"), finding.get("words")
    checks: list[Check] = []
    if isinstance(symbol, str) and symbol:
        checks.append(partial(_has_word, symbol))
    if isinstance(file, str) and file:
        checks.append(partial(_has, (file.rpartition("/")[2],)))
    if isinstance(words, list) and words:
        checks.append(partial(_has, tuple(map(str, words))))
    return (lambda text: all(check(text) for check in checks)) if checks else None


def _has_word(word: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


def _has(words: tuple[str, ...], text: str) -> bool:
    lower = text.lower()
    return any(word.lower() in lower for word in words)

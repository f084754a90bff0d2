"""The tokens that OpenAI's older APIs count, and those who copy them: Chat Completions and Completions."""

from latbench.model.answer import Answer, Usage
from latbench.providers.fields import Wire, count


class _InputDetails(Wire):
    cached_tokens: int | None = None


class _OutputDetails(Wire):
    reasoning_tokens: int | None = None


class OpenAIUsage(Wire):
    """`usage` as it comes. Input includes cached tokens and output reasoning, as with us (OpenAI SDK source)."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    prompt_cache_hit_tokens: int | None = None  # DeepSeek
    reasoning_tokens: int | None = None  # SGLang


def add_usage(usage: OpenAIUsage, answer: Answer) -> None:
    """Counts are cumulative where they are repeated: the last one given stands, field by field."""
    total = answer.usage = answer.usage or Usage()
    cached, reasoning = usage.prompt_cache_hit_tokens, usage.reasoning_tokens
    if usage.prompt_tokens_details is not None and usage.prompt_tokens_details.cached_tokens is not None:
        cached = usage.prompt_tokens_details.cached_tokens
    if usage.completion_tokens_details is not None and usage.completion_tokens_details.reasoning_tokens is not None:
        reasoning = usage.completion_tokens_details.reasoning_tokens
    total.input = count(usage.prompt_tokens, total.input)
    total.output = count(usage.completion_tokens, total.output)
    total.reasoning = count(reasoning, total.reasoning)
    total.cached = count(cached, total.cached)

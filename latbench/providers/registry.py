"""The APIs latbench speaks. A new one is a file with a `DIALECT` and a line here."""

from latbench.providers import (
    anthropic,
    azure_openai,
    bedrock,
    cohere,
    gemini,
    mistral,
    ollama,
    openai_chat,
    openai_completions,
    openai_responses,
)
from latbench.providers.base import Dialect

DIALECTS: dict[str, Dialect] = {
    dialect.api: dialect
    for dialect in (
        openai_chat.DIALECT,
        openai_completions.DIALECT,
        openai_responses.DIALECT,
        azure_openai.DIALECT,
        anthropic.DIALECT,
        gemini.DIALECT,
        mistral.DIALECT,
        cohere.DIALECT,
        bedrock.DIALECT,
        ollama.DIALECT,
    )
}

APIS = tuple(DIALECTS)

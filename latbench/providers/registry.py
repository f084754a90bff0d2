"""The APIs latbench speaks. A new one is a file with a `DIALECT` and a line here."""

from latbench.providers import openai_chat
from latbench.providers.base import Dialect

DIALECTS: dict[str, Dialect] = {dialect.api: dialect for dialect in (openai_chat.DIALECT,)}

APIS = tuple(DIALECTS)

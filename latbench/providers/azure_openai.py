"""Azure OpenAI by its dated API: Chat Completions under a path of its own.

`base_url` is the resource's address (`https://NAME.openai.azure.com`), `model` the deployment's name. The path, the
`api-key` header and the `model` that stays in the body are those that AzureOpenAI of the openai SDK (1.x to 3.x) was
seen to send. Newer features want a later `api-version` than the dated one here: Azure's v1 API has none, and is plain
`openai-chat` with `base_url: https://NAME.openai.azure.com/openai/v1` (Azure OpenAI documentation, API lifecycle).

Three habits, quoted from real traffic, are read by the decoder of `openai-chat`: the first chunk has no choices, an
empty id, object and model, and `prompt_filter_results`; choices carry `content_filter_results`; with the asynchronous
filter there are chunks that only annotate. Default filtering holds output back and hands it out in blocks (Azure OpenAI
documentation, content streaming), so that the gaps between chunks are the filter's. A filtered prompt is HTTP 400.
"""

from urllib.parse import quote

import msgspec

from latbench.model.request import Ask, Endpoint, HttpRequest
from latbench.providers import openai_chat
from latbench.providers.base import Dialect
from latbench.providers.refusals import refusal_of_status
from latbench.wire.sse import SseFramer

API_VERSION = "2024-10-21"
"""The newest dated version that is not a preview, by providers.md section 7."""


def build(endpoint: Endpoint, ask: Ask) -> HttpRequest:
    """The request of `openai-chat`, at the deployment's own path."""
    path = f"/openai/deployments/{quote(endpoint.model, safe='')}/chat/completions?api-version={API_VERSION}"
    return msgspec.structs.replace(openai_chat.build(endpoint, ask), path=path)


def auth(key: str) -> dict[str, str]:
    """The header that carries `key`. (A token of Entra goes into `headers` of the scenario instead.)"""
    return {"api-key": key}


DIALECT = Dialect(
    api="azure-openai",
    build=build,
    auth=auth,
    framer=SseFramer,
    decode=openai_chat.decode,
    decode_plain=openai_chat.decode_plain,
    decode_many=openai_chat.decode_many,
    decode_alike=openai_chat.decode_alike,
    refusal=refusal_of_status,
    own=openai_chat.DIALECT.own,
    modes=openai_chat.DIALECT.modes,
    tools=openai_chat.DIALECT.tools,
)

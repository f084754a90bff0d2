"""Request bodies, encoded before they are due: only the nonce is put in when a request leaves.

A body is built once for each endpoint and prompt with a stand-in where the nonce goes, and cut there. The nonce is
hexadecimal, so that it needs no escaping in any encoding a dialect may use.
"""

from collections.abc import Sequence

from latbench.model.frames import Job
from latbench.model.request import Ask, Message
from latbench.plan.draw import NONCE_CHARS, open_with
from latbench.providers.registry import DIALECTS

MEMORY_BYTES = 256 << 20
_STAND_IN = "f0" * (NONCE_CHARS // 2)


class Bodies:
    """The encoded bodies of a job. What does not fit into `MEMORY_BYTES` is encoded when it is asked for."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._cut: dict[tuple[int, int], tuple[bytes, bytes]] = {}
        size = 0
        for endpoint in range(len(job.endpoints)):
            for prompt in range(len(job.prompts)):
                parts = self._encode(endpoint, job.prompts[prompt].messages, self.max_tokens(prompt))
                size += len(parts[0]) + len(parts[1])
                if size > MEMORY_BYTES:
                    return
                self._cut[endpoint, prompt] = parts

    def max_tokens(self, prompt: int, wanted: int = 0) -> int:
        """The longest answer to ask for: `wanted`, else the scenario's or the prompt's own, whichever is smaller."""
        everywhere = self._job.max_tokens
        return wanted or min(everywhere, self._job.prompts[prompt].max_tokens or everywhere)

    def get(self, endpoint: int, prompt: int, nonce: str, max_tokens: int = 0) -> bytes:
        """The body that asks `endpoint` for `prompt`; `nonce` is empty where the prompt goes out as it is.

        `max_tokens`, if not 0, is asked for instead of what scenario and prompt say.
        """
        cut = None if max_tokens else self._cut.get((endpoint, prompt))
        if cut is None:
            messages = self._job.prompts[prompt].messages
            cut = self._encode(endpoint, messages, self.max_tokens(prompt, max_tokens))
        return cut[0] + nonce.encode("ascii") + cut[1]

    def conversation(self, endpoint: int, messages: Sequence[Message], nonce: str, max_tokens: int) -> bytes:
        """The body of a turn that carries the earlier ones; the nonce opens the conversation."""
        before, after = self._encode(endpoint, messages, max_tokens)
        return before + nonce.encode("ascii") + after

    def _encode(self, endpoint: int, messages: Sequence[Message], max_tokens: int) -> tuple[bytes, bytes]:
        to = self._job.endpoints[endpoint]
        opened = open_with(_STAND_IN, messages) if self._job.cold else tuple(messages)
        body = DIALECTS[to.api].build(to, Ask(opened, max_tokens)).body
        if not self._job.cold:
            return body, b""
        before, found, after = body.partition(_STAND_IN.encode("ascii"))
        if not found:
            raise ValueError(f"{to.api} does not send the prompt as it stands: no place for the nonce")
        return before, after

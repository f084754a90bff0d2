"""Request bodies, encoded before they are due: only the nonce is put in when a request leaves.

A body is built once for each endpoint and prompt with a stand-in where the nonce goes, and cut there. The nonce is
hexadecimal, so that it needs no escaping in any encoding a dialect may use.
"""

from latbench.model.frames import Job
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
                parts = self._encode(endpoint, prompt)
                size += len(parts[0]) + len(parts[1])
                if size > MEMORY_BYTES:
                    return
                self._cut[endpoint, prompt] = parts

    def get(self, endpoint: int, prompt: int, nonce: str) -> bytes:
        """The body that asks `endpoint` for `prompt`; `nonce` is empty where the prompt goes out as it is."""
        before, after = self._cut.get((endpoint, prompt)) or self._encode(endpoint, prompt)
        return before + nonce.encode("ascii") + after

    def _encode(self, endpoint: int, prompt: int) -> tuple[bytes, bytes]:
        to, what = self._job.endpoints[endpoint], self._job.prompts[prompt]
        messages = open_with(_STAND_IN, what.messages) if self._job.cold else what.messages
        max_tokens = min(self._job.max_tokens, what.max_tokens or self._job.max_tokens)
        body = DIALECTS[to.api].build(to, messages, max_tokens).body
        if not self._job.cold:
            return body, b""
        before, found, after = body.partition(_STAND_IN.encode("ascii"))
        if not found:
            raise ValueError(f"{to.api} does not send the prompt as it stands: no place for the nonce")
        return before, after

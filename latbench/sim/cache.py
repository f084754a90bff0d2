"""A model of a prompt cache: the longest beginning of a prompt that was seen before, in blocks, need not be read again.

Pure: whoever asks hands over the time. Beginnings of less than 1024 tokens are not cached. Only digests are kept.
"""

import hashlib
from collections import OrderedDict

_BLOCK_TOKENS = 128
_LEAST_BLOCKS = 8
_BYTES_PER_TOKEN = 4
_MOST_BLOCKS = 200_000


class PromptCache:
    """What prompts were seen. A block lives `ttl_ns` after its last use; at 0 nothing is cached."""

    def __init__(self, ttl_ns: int) -> None:
        self._ttl_ns = ttl_ns
        self._until: OrderedDict[bytes, int] = OrderedDict()  # digest -> when it is gone, the soonest first

    def look(self, scope: str, prompt: bytes, now_ns: int) -> tuple[int, int]:
        """Reads a prompt, and keeps it: how many of its tokens were cached, and how many are now that were not.

        Nothing is shared between scopes (key and model).
        """
        if self._ttl_ns == 0:
            return 0, 0
        self._forget(now_ns)
        digests = self._digests(scope, prompt)
        known = 0
        for digest in digests:
            if digest not in self._until:
                break
            known += 1
        for digest in digests:
            self._until[digest] = now_ns + self._ttl_ns
            self._until.move_to_end(digest)
        while len(self._until) > _MOST_BLOCKS:
            self._until.popitem(last=False)
        cached = _size(known)
        return cached, _size(len(digests)) - cached

    def clear(self) -> None:
        """Forgets everything."""
        self._until.clear()

    def _forget(self, now_ns: int) -> None:
        while self._until:
            digest, until_ns = next(iter(self._until.items()))
            if until_ns > now_ns:
                return
            del self._until[digest]

    @staticmethod
    def _digests(scope: str, prompt: bytes) -> list[bytes]:
        """Of each beginning that is long enough, the shortest first."""
        step = _BLOCK_TOKENS * _BYTES_PER_TOKEN
        running = hashlib.blake2b(scope.encode("utf-8", "surrogatepass") + b"\0", digest_size=16)
        found = []
        for block in range(1, len(prompt) // step + 1):
            running.update(prompt[(block - 1) * step : block * step])
            if block >= _LEAST_BLOCKS:
                found.append(running.digest())
        return found


def _size(digests: int) -> int:
    """Tokens of the beginning that so many digests stand for."""
    return (_LEAST_BLOCKS - 1 + digests) * _BLOCK_TOKENS if digests else 0

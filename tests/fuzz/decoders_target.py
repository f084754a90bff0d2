"""What is fuzzed: framers and decoders of every dialect, with bytes of any kind.

An input is two bytes that choose the API and what reads the rest, and the rest. Anything but a sane answer, a sane
refusal or a DecodeError is a finding.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "providers"))

from hostile_kit import check_problem, check_refusal, check_sane, framed, payloads, recorded

from latbench.model.answer import Answer
from latbench.model.errors import DecodeError
from latbench.providers.headroom import headroom
from latbench.providers.registry import APIS, DIALECTS

STREAM, EVENT, PLAIN, REFUSAL = range(4)
_STATUSES = (429, 400, 402, 403, 500, 503)


def one_input(data: bytes) -> None:
    """Run one input. Raises whatever no decoder may raise, AssertionError for an answer that is not sane."""
    if len(data) < 2:
        return
    api, how, rest = APIS[data[0] % len(APIS)], data[1], data[2:]
    if how % 4 == REFUSAL:
        _refuse(api, _STATUSES[how // 4 % len(_STATUSES)], rest)
        return
    answer = Answer()
    try:
        if how % 4 == STREAM:
            _stream(api, rest, how // 4 + 1, answer)
        else:
            (DIALECTS[api].decode if how % 4 == EVENT else DIALECTS[api].decode_plain)(rest, 1, answer)
    except DecodeError as fault:
        check_problem(fault)
    check_sane(answer)


def _stream(api: str, body: bytes, size: int, answer: Answer) -> None:
    """A body in reads of `size` bytes; in one read it has the same events."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    events = framed(api, pieces)
    assert events == framed(api, [body])
    for at, payload in enumerate(events):
        DIALECTS[api].decode(payload, at, answer)


def _refuse(api: str, status: int, data: bytes) -> None:
    """Lines up to an empty one are headers, what follows is the body."""
    head, _, body = data.partition(b"\n\n")
    lines = [line.partition(": ") for line in head.decode("utf-8", "replace").split("\n")]
    headers = {name.lower(): value for name, colon, value in lines if colon}
    check_refusal(DIALECTS[api].refusal(status, headers, body))
    for one in headroom(headers).values():
        assert all(number is None or number >= 0 for number in (one.limit, one.remaining, one.reset_ns))


HEADERS = (
    b"retry-after: 20\nretry-after-ms: 120\ndate: Sun, 22 Nov 2026 21:00:00 GMT\n"
    b"x-ratelimit-limit-requests: 600\nx-ratelimit-remaining-requests: 0\nx-ratelimit-reset-requests: 1m1.5s\n"
    b"anthropic-ratelimit-tokens-limit: 1\nanthropic-ratelimit-tokens-remaining: 0\n"
    b"anthropic-ratelimit-tokens-reset: 2026-11-22T21:00:20Z\nx-amzn-errortype: ThrottlingException:http://x/\n\n"
)
ERROR = b'{"error":{"code":"rate_limit_exceeded","type":"tokens","message":"try again in 1m2.5s","details":[]}}'


def seeds() -> Iterator[bytes]:
    """Inputs to begin with: every recorded stream and event, and a refusal."""
    for number, api in enumerate(APIS):
        for _, body in recorded(api):
            yield bytes([number, STREAM + 4 * 12]) + body
        for payload in payloads(api):
            yield bytes([number, EVENT]) + payload
            yield bytes([number, PLAIN]) + payload
        yield bytes([number, REFUSAL]) + HEADERS + ERROR

"""A snapshot as Prometheus' remote write takes it: protobuf and snappy, the few fields and the one form that we need.

Each distribution goes out twice: as the cumulative buckets that are scraped, and under its bare name as a native
histogram, whose quantiles are within 4.5 % without anybody's choice of bounds. These versions cannot scrape those.

Sources: `prompb/types.proto` of Prometheus 2.42 and the format description of snappy, of which only literals are used.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping

from latbench.export.prometheus import buckets
from latbench.metrics.distribution import SCHEMA, Distribution
from latbench.metrics.series import Snapshot

_LITERAL_BYTES = 65_536
_ZERO_THRESHOLD = 1e-128
_VARINT, _FIXED64, _BYTES = 0, 1, 2

HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


def write_request(snapshot: Snapshot, at_ms: int, more: Mapping[str, str]) -> bytes:
    """The body of a request that writes a snapshot at a moment, its series with `more` labels (`job`, `instance`)."""
    return snappy(b"".join(_bytes(1, series) for series in _series(snapshot, at_ms, more)))


def _series(snapshot: Snapshot, at_ms: int, more: Mapping[str, str]) -> Iterator[bytes]:
    for series, values, point in snapshot:
        own = {**more, **dict(zip(series.labels, values, strict=True))}
        if not isinstance(point, Distribution):
            yield _labels(series.name, own) + _sample(point, at_ms)
            continue
        yield _labels(series.name, own) + _bytes(4, native(point, at_ms))
        for bound, count in buckets(point):
            yield _labels(f"{series.name}_bucket", own | {"le": bound}) + _sample(count, at_ms)
        yield _labels(f"{series.name}_count", own) + _sample(point.n, at_ms)
        yield _labels(f"{series.name}_sum", own) + _sample(point.total, at_ms)


def _labels(name: str, labels: Mapping[str, str]) -> bytes:
    """Labels sorted by name; one without a value is none."""
    pairs = sorted({**labels, "__name__": name}.items())
    return b"".join(_bytes(1, _bytes(1, key.encode()) + _bytes(2, text.encode())) for key, text in pairs if text)


def _sample(value: float, at_ms: int) -> bytes:
    return _bytes(2, _double(1, value) + _number(2, at_ms))


def native(distribution: Distribution, at_ms: int) -> bytes:
    """A `prompb.Histogram` with whole counts: those of the buckets as differences, runs of buckets as spans."""
    places = sorted(distribution.exponential)
    counts = [distribution.exponential[place] for place in places]
    deltas = [count - before for count, before in zip(counts, [0, *counts], strict=False)]
    parts = [
        _number(1, distribution.n),
        _double(3, distribution.total),
        _number(4, _zigzag(SCHEMA)),
        _double(5, _ZERO_THRESHOLD),
        _number(6, distribution.zeros),
        *(_bytes(11, _number(1, _zigzag(offset)) + _number(2, length)) for offset, length in _spans(places)),
        _bytes(12, b"".join(_varint(_zigzag(delta)) for delta in deltas)),
        _number(15, at_ms),
    ]
    return b"".join(parts)


def _spans(places: Iterable[int]) -> list[tuple[int, int]]:
    """Runs of neighbouring buckets as (distance from the end of the run before, length)."""
    spans: list[tuple[int, int]] = []
    after = 0
    for place in places:
        if spans and place == after:
            spans[-1] = (spans[-1][0], spans[-1][1] + 1)
        else:
            spans.append((place - after, 1))
        after = place + 1
    return spans


def snappy(data: bytes) -> bytes:
    """Snappy's block format, nothing of it compressed: the length, then literals."""
    parts = [_varint(len(data))]
    for at in range(0, len(data), _LITERAL_BYTES):
        literal = data[at : at + _LITERAL_BYTES]
        parts += [b"\xf4", (len(literal) - 1).to_bytes(2, "little"), literal]  # 61: two bytes of length follow
    return b"".join(parts)


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | _FIXED64) + struct.pack("<d", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(value)) + value

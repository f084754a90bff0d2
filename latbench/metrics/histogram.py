"""A histogram that merges without loss: int64 counts in HdrHistogram's own layout.

The range is 1 us to 1 h at 3 significant digits, the lowest unit 1 us. Values are handed in and out as nanoseconds;
they are rounded to the nearest microsecond (half up) on the way in, so that a percentile is off by at most 0.1 % or
0.5 us, whichever is more. Recording is vectorised: HdrHistogram's `record_value` costs a hundred times as much.

`n`, `min_ns`, `max_ns`, the sum and the counts add up, so any order and grouping of merges gives the same histogram.
What is out of range is clamped to the nearest bound, counted there, and counted once more in `clamped`.
"""

import zlib

import numpy as np
from hdrh.codec import (  # type: ignore[import-untyped]
    HdrCookieException,
    HdrHistogramEncoder,
    HdrLengthException,
)
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

LOWEST_US = 1
HIGHEST_US = 3_600_000_000
SIGNIFICANT_DIGITS = 3

_SUB_BITS = 11  # 2048 sub-buckets are the power of two that holds 2 * 10**3
_HALF_BITS = _SUB_BITS - 1
_LAYOUT = HdrHistogram(LOWEST_US, HIGHEST_US, SIGNIFICANT_DIGITS)
SIZE: int = _LAYOUT.counts_len
_PAIR = np.dtype([("index", "<u2"), ("count", "<u4")])  # SIZE is below 2**16


def _index(values_us: np.ndarray) -> np.ndarray:
    """HdrHistogram's index of each value. Values are below 2**53, so frexp's exponent is the exact bit length."""
    bucket = np.maximum(np.frexp(values_us.astype(np.float64))[1] - _SUB_BITS, 0).astype(np.int64)
    index: np.ndarray = (bucket << _HALF_BITS) + (values_us >> bucket)
    return index


def _bounds_us(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest microsecond that are counted at each index."""
    bucket = np.maximum((index >> _HALF_BITS) - 1, 0)
    low = (index - (bucket << _HALF_BITS)) << bucket
    return low, low + (np.int64(1) << bucket) - 1


def counted(values: np.ndarray) -> bytes:
    """Durations in nanoseconds as counts that `Histogram.add_counted` takes: 6 bytes for each bucket that has any.

    For what is counted four times a second and shipped: most of the histogram is empty then.
    """
    if not len(values):
        return b""
    inside = np.clip(np.asarray(values, dtype=np.int64), 0, HIGHEST_US * 1000)
    counts = np.bincount(_index((inside + 500) // 1000))
    used = np.flatnonzero(counts)
    pairs = np.empty(len(used), dtype=_PAIR)
    pairs["index"], pairs["count"] = used, counts[used]
    return pairs.tobytes()


class Histogram:
    """Counts of durations. Attributes are read freely and changed by `record`, `merge` and `decode` only."""

    def __init__(self) -> None:
        self.counts: np.ndarray = np.zeros(SIZE, dtype=np.int64)
        self.n = 0
        self.clamped = 0
        self.min_ns: int | None = None
        self.max_ns: int | None = None
        self._sum_ns = 0

    def record(self, values: np.ndarray) -> None:
        """Count durations, integers in nanoseconds."""
        if not len(values):
            return
        given = np.asarray(values, dtype=np.int64)
        inside = np.clip(given, 0, HIGHEST_US * 1000)
        self.counts += np.bincount(_index((inside + 500) // 1000), minlength=SIZE)
        self.n += len(inside)
        self.clamped += int(np.count_nonzero(inside != given))
        self._widen(int(inside.min()), int(inside.max()))
        # In two halves: the sum of many hours in nanoseconds could leave int64.
        self._sum_ns += int((inside // 1000).sum()) * 1000 + int((inside % 1000).sum())

    def merge(self, other: "Histogram") -> None:
        """Add the other's counts to these."""
        self.counts += other.counts
        self.n += other.n
        self.clamped += other.clamped
        self._sum_ns += other._sum_ns
        if other.min_ns is not None and other.max_ns is not None:
            self._widen(other.min_ns, other.max_ns)

    def add_counted(self, data: bytes) -> None:
        """Add the counts of `counted`: extremes and mean are as wide as a bucket. Raises ValueError for other bytes."""
        pairs = np.frombuffer(data, dtype=_PAIR)
        index, counts = pairs["index"].astype(np.int64), pairs["count"].astype(np.int64)
        if not len(pairs):
            return
        if int(index.max()) >= SIZE:
            raise ValueError("a bucket that no histogram has")
        np.add.at(self.counts, index, counts)
        low, high = _bounds_us(index)
        self.n += int(counts.sum())
        self._sum_ns += int((counts * (low + high) * 500).sum())
        self._widen(int(low.min()) * 1000, int(high.max()) * 1000)

    def percentile(self, k_per_mille: int) -> int | None:
        """The value of rank ceil(n*k/1000) in nanoseconds, as the upper edge of its bucket; None if n is 0.

        The last rank is the maximum itself.
        """
        if self.min_ns is None or self.max_ns is None:
            return None
        rank = max(1, -(-self.n * k_per_mille // 1000))
        if rank >= self.n:
            return self.max_ns
        index = np.searchsorted(np.cumsum(self.counts), rank)
        edge_ns = int(_bounds_us(np.asarray(index, dtype=np.int64))[1]) * 1000
        return min(max(edge_ns, self.min_ns), self.max_ns)

    @property
    def mean_ns(self) -> float | None:
        """The mean of what was recorded, exact; of what was decoded, from the middle of each bucket."""
        return self._sum_ns / self.n if self.n else None

    def encode(self) -> bytes:
        """The counts as HdrHistogram's `encode()` writes them (V2, compressed, base64); the unit is 1 us.

        The format has no place for `clamped`, and `min_ns`, `max_ns` and the mean come back as wide as a bucket:
        whoever needs them exactly ships them beside it.
        """
        native = HdrHistogram(LOWEST_US, HIGHEST_US, SIGNIFICANT_DIGITS)
        np.frombuffer(native.counts, dtype=np.int64)[:] = self.counts
        used = np.flatnonzero(self.counts)
        if len(used):
            native.set_internal_tacking_values(int(used[0]), int(used[-1]), self.n)
        encoded: bytes = native.encode()
        return encoded

    @classmethod
    def decode(cls, data: bytes) -> "Histogram":
        """The histogram of `encode`. Raises ValueError for other bytes and for another range or precision."""
        histogram = cls()
        histogram.counts[:] = _decoded_counts(data)
        used = np.flatnonzero(histogram.counts)
        if len(used):
            low, high = _bounds_us(used)
            counts = histogram.counts[used]
            histogram.n = int(counts.sum())
            histogram._widen(int(low[0]) * 1000, int(high[-1]) * 1000)
            middles_ns = (low + high) * 500
            histogram._sum_ns = sum(int(c) * int(m) for c, m in zip(counts, middles_ns, strict=True))
        return histogram

    def _widen(self, low_ns: int, high_ns: int) -> None:
        self.min_ns = low_ns if self.min_ns is None else min(self.min_ns, low_ns)
        self.max_ns = high_ns if self.max_ns is None else max(self.max_ns, high_ns)


def _decoded_counts(data: bytes) -> np.ndarray:
    """The counts in `data`. The settings are checked before any memory is taken for them."""
    try:
        payload = HdrHistogramEncoder.decode(data)
        header = payload.payload
        found = (header.lowest_trackable_value, header.highest_trackable_value, header.significant_figures)
        if found != (LOWEST_US, HIGHEST_US, SIGNIFICANT_DIGITS):
            raise ValueError(f"a histogram of {found}, expected {(LOWEST_US, HIGHEST_US, SIGNIFICANT_DIGITS)}")
        native = HdrHistogram(*found, hdr_payload=payload)
    except (HdrCookieException, HdrLengthException, zlib.error, TypeError, IndexError, ValueError) as error:
        raise ValueError(f"not an encoded histogram: {error}") from error
    return np.frombuffer(native.counts, dtype=np.int64)

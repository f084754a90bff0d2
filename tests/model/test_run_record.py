"""The record of a run is kept as JSON in the store: every field of it survives."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from latbench.model.run import RunRecord, StepRecord

TEXT = st.text(max_size=20)
NUMBER = st.none() | st.integers(0, 2**53)
STEPS = st.builds(
    StepRecord,
    index=st.integers(0, 99),
    shape=TEXT,
    concurrency=NUMBER,
    rate=st.none() | st.floats(0, 1e6),
    requests=NUMBER,
    started_ns=st.integers(-(2**62), 2**62),
    measure_from_ns=NUMBER.map(lambda number: number or 0),
    measure_to_ns=NUMBER.map(lambda number: number or 0),
)
RUNS = st.builds(
    RunRecord,
    id=TEXT,
    name=TEXT,
    scenario_name=TEXT,
    scenario_sha256=TEXT,
    scenario=st.dictionaries(TEXT, NUMBER | TEXT, max_size=3),
    started_at=TEXT,
    workers=st.integers(1, 99),
    seed=st.integers(0, 2**53),
    window=st.none() | TEXT,
    labels=st.dictionaries(TEXT, TEXT, max_size=3),
    steps=st.lists(STEPS, max_size=3),
    stops=st.lists(st.tuples(TEXT, TEXT), max_size=3),
)


@given(RUNS)
def test_a_record_survives_the_store(record: RunRecord) -> None:
    assert msgspec.json.decode(msgspec.json.encode(record), type=RunRecord) == record


def test_records_do_not_share_their_defaults() -> None:
    one, other = (RunRecord("i", "n", "s", "0", {}, "now", 1, 0) for _ in range(2))
    one.notes.append({"code": "x"})
    one.labels["a"] = "b"
    assert other.notes == []
    assert other.labels == {}

"""Every message survives the trip, alone and in a stream cut anywhere."""

import types
from enum import StrEnum
from itertools import pairwise
from types import NoneType
from typing import Any, get_args, get_origin

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latbench.model import frames
from latbench.model.frames import (
    MAX_FRAME_BYTES,
    Ack,
    Batch,
    Bye,
    Down,
    Effort,
    Job,
    Prepare,
    Slot,
    Unpacker,
    Up,
    decode_down,
    decode_up,
    prompts_sha256,
)
from latbench.model.load import Shape, Step
from latbench.model.request import Endpoint, Prompt, Timeouts, Tool
from latbench.model.sample import Outcome, Sample

TEXT = st.text(max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**63 - 1),
    str: TEXT,
    float: st.floats(allow_nan=False),
    bytes: st.binary(max_size=30),
    bool: st.booleans(),
    NoneType: st.none(),
    Any: JSON,
}


def of(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Any value of a record, every field drawn, those with defaults too."""
    hints = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    return st.fixed_dictionaries({name: of_hint(hint) for name, hint in hints.items()}).map(lambda row: kind(**row))


def of_hint(hint: Any) -> st.SearchStrategy[Any]:
    if hint in PLAIN:
        return PLAIN[hint]
    inner = [of_hint(one) for one in get_args(hint) if one is not ...]
    match get_origin(hint):
        case types.UnionType:
            return st.one_of(*inner)
        case origin if origin is list:
            return st.lists(inner[0], max_size=2)
        case origin if origin is tuple and ... in get_args(hint):
            return st.lists(inner[0], max_size=2).map(tuple)
        case origin if origin is tuple:
            return st.tuples(*inner)
        case origin if origin is dict:
            return st.dictionaries(*inner, max_size=3)
    if issubclass(hint, StrEnum):
        return st.sampled_from(hint)
    assert issubclass(hint, msgspec.Struct), hint
    return of(hint)


DOWNS = st.one_of(*(of(kind) for kind in get_args(Down)))
UPS = st.one_of(*(of(kind) for kind in get_args(Up)))


def test_every_message_of_the_module_goes_up_or_down() -> None:
    tagged = {kind for kind in vars(frames).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)}
    records = {Sample, Slot, Effort, Step, Endpoint, Prompt, Timeouts, Tool}
    assert tagged - records == {*get_args(Down), *get_args(Up)}


@given(DOWNS)
def test_orders_survive_the_trip(order: Down) -> None:
    assert decode_down(frames.encode(order)) == order
    assert Unpacker().feed(frames.pack(order)) == [frames.encode(order)]


@given(UPS)
def test_reports_survive_the_trip(report: Up) -> None:
    assert decode_up(frames.encode(report)) == report
    assert Unpacker().feed(frames.pack(report)) == [frames.encode(report)]


@pytest.mark.parametrize("kind", [*get_args(Down), *get_args(Up)], ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_each_kind_of_message_survives_the_trip(kind: type[Any], data: st.DataObject) -> None:
    message = data.draw(of(kind))
    decode = decode_down if kind in get_args(Down) else decode_up
    assert decode(frames.encode(message)) == message


@pytest.mark.parametrize("shape", get_args(Shape), ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_each_shape_of_load_survives_the_trip(shape: type[Any], data: st.DataObject) -> None:
    load = Step(data.draw(of(shape)), requests=data.draw(st.none() | st.integers(0, 2**40)))
    back = decode_down(frames.encode(Prepare(0, load)))
    assert isinstance(back, Prepare)
    assert (type(back.load.shape), back.load) == (shape, load)


@settings(max_examples=20)
@given(st.lists(of(Prompt), max_size=2), st.lists(of(Prompt), max_size=2))
def test_prompts_have_one_hash_exactly_if_they_are_sent_alike(some: list[Prompt], others: list[Prompt]) -> None:
    alike = [[(one.id, one.messages, one.max_tokens) for one in prompts] for prompts in (some, others)]
    assert (prompts_sha256(some) == prompts_sha256(others)) == (alike[0] == alike[1])
    decode = msgspec.msgpack.Decoder(list[Prompt])
    assert prompts_sha256(decode.decode(msgspec.msgpack.encode(some))) == prompts_sha256(some)


def test_an_outcome_arrives_as_the_text_it_is() -> None:
    sample = Sample("e", 0, 1, "p", "measure", Outcome.RATE_LIMITED)
    back = decode_up(frames.encode(Batch(step=0, samples=[sample], in_flight=0)))
    assert isinstance(back, Batch)
    assert back.samples[0].outcome == Outcome.RATE_LIMITED == "rate_limited"
    assert back.samples[0].key == ("e", 0, 1)


def test_an_order_is_not_a_report() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_up(frames.encode(Bye()))
    with pytest.raises(msgspec.ValidationError):
        decode_down(frames.encode(Batch(step=0, samples=[], in_flight=0)))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\x01", b"\x80", b"hello", b"\x81\xa4type\xa4nope"])
def test_other_bytes_are_refused(data: bytes) -> None:
    for decode in (decode_down, decode_up):
        with pytest.raises(msgspec.DecodeError):
            decode(data)


def test_no_field_of_a_job_is_a_secret() -> None:
    """Keys travel as the names of variables; a field that holds a value would be seen here."""
    names = {field.name for kind in (Job, Endpoint) for field in msgspec.structs.fields(kind)}
    assert {name for name in names if "key" in name or "secret" in name or "token" in name} == {
        "api_key_env",
        "max_tokens",
        "max_tokens_field",
    }


JOB = Job("r", "w", "v", "5" * 64, 0, 1, [], [], {}, 1, True, Timeouts(1, 2, 3, 4), 5, True)
STREAM = [Ack(1), Bye(), Ack(2**40), JOB]


def test_a_stream_is_cut_back_at_every_split() -> None:
    whole = b"".join(frames.pack(message) for message in STREAM)
    for at in range(len(whole) + 1):
        unpacker = Unpacker()
        got = unpacker.feed(whole[:at]) + unpacker.feed(whole[at:])
        assert [decode_down(frame) for frame in got] == STREAM


def test_a_stream_is_cut_back_byte_by_byte() -> None:
    whole = b"".join(frames.pack(message) for message in STREAM)
    unpacker = Unpacker()
    got = [frame for at in range(len(whole)) for frame in unpacker.feed(whole[at : at + 1])]
    assert [decode_down(frame) for frame in got] == STREAM


@given(st.lists(st.binary(max_size=20), max_size=6), st.lists(st.integers(0, 150), max_size=8))
def test_a_stream_is_cut_back_at_any_splits(payloads: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads)
    edges = sorted({0, len(whole), *(min(cut, len(whole)) for cut in cuts)})
    unpacker = Unpacker()
    got = [frame for start, end in pairwise(edges) for frame in unpacker.feed(whole[start:end])]
    assert got == payloads


@pytest.mark.parametrize("length", [MAX_FRAME_BYTES + 1, 2**32 - 1])
def test_an_absurd_length_is_refused_before_anything_is_waited_for(length: int) -> None:
    with pytest.raises(ValueError, match=f"frame of {length} bytes"):
        Unpacker().feed(frames.pack(Bye()) + length.to_bytes(4, "big"))


def test_the_largest_length_is_waited_for() -> None:
    assert Unpacker().feed(MAX_FRAME_BYTES.to_bytes(4, "big") + b"x") == []

"""Traces: what a file says, what it stands for with given prompts, and the line of every mistake."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latbench.model.errors import UserError
from latbench.model.load import Trace
from latbench.model.request import Message, Prompt
from latbench.scenario.prompts import PromptSet
from latbench.scenario.trace import TraceFile, read_trace

SECOND = 1_000_000_000


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def prompts(*lengths: int) -> PromptSet:
    """Prompts `p<number>` of those lengths, and one called `left` of a task that has no weight."""
    made = [Prompt(f"p{n}", "review", "go", (Message("user", "x"),), tokens, "") for n, tokens in enumerate(lengths)]
    left = Prompt("left", "search", "go", (Message("user", "x"),), 1000, "")
    return PromptSet("test", "", "", (*made, left), {"review": 1.0})


def trace(text: str, name: str = "t.csv") -> TraceFile:
    path = Path.cwd() / name
    path.write_text(text, encoding="utf-8")
    return read_trace(path)


def refused(text: str, name: str = "t.csv", among: PromptSet | None = None) -> list[str]:
    if among is None:
        with pytest.raises(UserError) as caught:
            trace(text, name)
    else:
        found = trace(text, name)
        with pytest.raises(UserError) as caught:
            found.resolve(name, among, 0)
    return str(caught.value).splitlines()


def columns(made: Trace) -> list[tuple[int, str | None, int]]:
    chosen = np.frombuffer(made.prompt, "<i4").tolist()
    names = [None if index < 0 else made.prompt_ids[index] for index in chosen]
    offsets = np.frombuffer(made.offsets_ns, "<i8").tolist()
    return list(zip(offsets, names, np.frombuffer(made.max_tokens, "<i4").tolist(), strict=True))


CSV = """\
offset, output_tokens, prompt, input_tokens

0,,p1,
0.25,64,,
250ms, 1k,,100
1e1,,p0,
"""
JSONL = """\
{"offset": 0, "prompt": "p1"}
{"offset": 0.25, "output_tokens": 64, "prompt": null}

{"offset": "250ms", "output_tokens": "1k", "input_tokens": 100}
{"offset": 1e1, "prompt": "p0"}
"""


@pytest.mark.parametrize(
    ("text", "name"), [(CSV, "t.csv"), ("\ufeff" + CSV.replace("\n", "\r\n"), "t.csv"), (JSONL, "t.jsonl")]
)
def test_both_kinds_of_file_say_the_same(text: str, name: str) -> None:
    found = trace(text, name)
    assert found.sha256 == hashlib.sha256(Path(name).read_bytes()).hexdigest()
    made = found.resolve("as/written", prompts(100, 500), 0)
    assert made.path == "as/written"
    assert columns(made) == [
        (0, "p1", 0),
        (SECOND // 4, None, 64),
        (SECOND // 4, "p0", 1000),
        (10 * SECOND, "p0", 0),
    ]
    assert set(made.prompt_ids) == {"p0", "p1"}


def test_seconds_are_rounded_to_nanoseconds_and_not_to_what_a_float_holds() -> None:
    found = trace('{"offset": 8640000.0000000014}\n{"offset": 31535999.999999999}\n', "t.jsonl")
    assert list(found.offsets_ns) == [8640000 * SECOND + 1, 31535999_999999999]


# --- prompts by length ---


def drawn(lengths: list[int], wanted: list[int], seed: int) -> list[int]:
    rows = "".join(f"{index},{tokens}\n" for index, tokens in enumerate(wanted))
    made = trace("offset,input_tokens\n" + rows).resolve("t", prompts(*lengths), seed)
    return [lengths[int(str(name)[1:])] for _, name, _ in columns(made)]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=30),
    st.lists(st.integers(1, 3000), min_size=1, max_size=20),
    st.integers(0, 9),
)
def test_the_length_is_within_a_tenth_or_the_nearest_there_is(lengths: list[int], wanted: list[int], seed: int) -> None:
    for got, asked in zip(drawn(lengths, wanted, seed), wanted, strict=True):
        assert abs(got - asked) <= max(asked // 10, min(abs(length - asked) for length in lengths))


def test_all_that_fit_are_drawn_and_the_seed_decides() -> None:
    lengths = [900, 950, 1000, 1100, 1101, 2000]
    first = drawn(lengths, [1000] * 200, 1)
    assert set(first) == {900, 950, 1000, 1100}
    assert all(30 <= first.count(length) <= 75 for length in set(first))
    assert drawn(lengths, [1000] * 200, 1) == first
    assert drawn(lengths, [1000] * 200, 2) != first
    assert drawn(lengths, [1000] * 100, 1) == first[:100]
    assert set(drawn([10, 30], [20] * 50, 0)) == {10, 30}, "as near as each other"


# --- mistakes ---


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("-1,,", "offset: must not be negative"),
        ("-0.001,,", "offset: must not be negative"),
        ("inf,,", "offset: neither seconds nor a duration; write 1.5 or 250ms"),
        ("nan,,", "offset: neither seconds nor a duration"),
        ("-5s,,", "offset: neither seconds nor a duration"),
        ("1e99,,", "offset: too late; at most 8760h"),
        ("1e999,,", "offset: neither seconds"),
        ("9000h,,", "offset: neither seconds nor a duration"),
        ('"",p0,', "offset: missing; add it"),
        ("0.999,,", "offset: before the line above it; sort the lines by offset"),
        ("2,1.5,", "input_tokens: must be a whole number"),
        ("2,many,", "input_tokens: not a size"),
        ("2,0,", "input_tokens: must be between 1 and 2147483647"),
        ("2,,3000M", "output_tokens: must be between 1 and 2147483647"),
        ("2,,,", "4 cells under a header of 3"),
        ("2", "1 cells under a header of 3"),
        ('2,"a"b,', "not CSV: "),
    ],
)
def test_mistakes_in_a_line(cells: str, message: str) -> None:
    (line,) = refused(f"offset,input_tokens,output_tokens\n1,,\n{cells}\n")
    assert line.startswith(f"t.csv:3: {message}")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{", "not JSON: Expecting property name"),
        ("[1]", 'not an arrival; write a mapping such as {"offset": 1.5}'),
        ('{"offset": NaN}', "not JSON: NaN is not a number"),
        ('{"offset": true}', "offset: must be a number or text"),
        ('{"offset": 1, "prompt": ["p0"]}', "prompt: must be a number or text"),
        ('{"offset": null}', "offset: missing; add it"),
        ('{"offset": 1, "output_token": 5}', '"output_token": unknown; did you mean "output_tokens"?'),
        ('{"prompt": "p0"}', "offset: missing; add it"),
        ('{"offset": 1, "prompt": "p0", "input_tokens": 5}', "prompt and input_tokens: either one"),
        ("[" * 100_000, "not JSON: "),
    ],
)
def test_mistakes_in_a_json_line(written: str, message: str) -> None:
    (line,) = refused(f'{{"offset": 0}}\n{written}\n', "t.jsonl")
    assert line.startswith(f"t.jsonl:2: {message}")


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "t.csv", "t.csv: holds no arrival; each line needs an offset"),
        ("offset\n", "t.csv", "t.csv: holds no arrival"),
        ("\n", "t.jsonl", "t.jsonl: holds no arrival"),
        ("time,prompt\n1,p0\n", "t.csv", 't.csv:1: "time": unknown; there are: offset, prompt,'),
        ("prompt\np0\n", "t.csv", "t.csv:1: offset: missing; add it"),
        ("offset,prompt,prompt\n", "t.csv", "t.csv:1: a column is there twice; keep one"),
        ("offset\n1\n", "t.txt", "t.txt: not a kind of file that holds a trace; there are *.csv and *.jsonl"),
    ],
)
def test_what_is_not_a_trace(text: str, name: str, message: str) -> None:
    (line,) = refused(text, name)
    assert line.startswith(message)


def test_many_mistakes_are_not_all_told() -> None:
    lines = refused("offset\n" + "x\n" * 25)
    assert lines[0].startswith("t.csv:2: ")
    assert lines[19].startswith("t.csv:21: ")
    assert lines[20:] == ["t.csv: and 5 more"]


def test_ids_must_be_among_what_is_drawn_from() -> None:
    rows = "offset,prompt\n0,p0\n1,p11\n2,zzz\n3,left\n"
    assert refused(rows, among=prompts(1, 2)) == [
        't.csv:3: prompt: no prompt "p11"; did you mean "p1"?',
        't.csv:4: prompt: no prompt "zzz"; the scenario has 2, as p0',
        "t.csv:5: prompt: left is of task search, which prompts.tasks leaves out",
    ]


values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["offset", "prompt", "x"]), inner),
    max_leaves=5,
)


@settings(deadline=None, max_examples=200)
@given(
    st.one_of(st.text(max_size=60), st.binary(max_size=60), values.map(json.dumps)), st.sampled_from(["csv", "jsonl"])
)
def test_whatever_a_file_holds_is_a_trace_or_the_users_mistake(text: str | bytes, suffix: str) -> None:
    path = Path(f"any.{suffix}").absolute()
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    mistakes = ""
    try:
        found = read_trace(path)
    except UserError as error:
        mistakes = str(error)
    if mistakes:
        assert [line for line in mistakes.splitlines() if not line.startswith(path.name)] == []
    else:
        assert 0 <= found.offsets_ns[0] == min(found.offsets_ns)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 10**16), st.none() | st.integers(0, 2), st.integers(0, 2**31 - 1)), min_size=1)
)
def test_what_is_written_is_read(rows: list[tuple[int, int | None, int]]) -> None:
    rows.sort(key=lambda row: row[0])
    written = [
        {"offset": f"{ns // SECOND}.{ns % SECOND:09d}"}
        | ({} if prompt is None else {"prompt": f"p{prompt}"})
        | ({"output_tokens": tokens} if tokens else {})
        for ns, prompt, tokens in rows
    ]
    made = trace("\n".join(map(json.dumps, written)), "t.jsonl").resolve("t", prompts(1, 2, 3), 0)
    assert columns(made) == [(ns, None if prompt is None else f"p{prompt}", tokens) for ns, prompt, tokens in rows]

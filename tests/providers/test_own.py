"""What a scenario may add to a body: whatever it is, the limit of output tokens stays the one that a budget counts."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.model.request import Ask, Endpoint, Fill, Message
from latbench.providers.registry import APIS, DIALECTS

LIMIT = 4711
MESSAGES = (Message("user", "x"),)
NAMES = sorted({part for dialect in DIALECTS.values() for name in dialect.own for part in name.split(".")})
VALUES = st.none() | st.integers(0, 9) | st.just([])
FIELDS = st.sampled_from([*NAMES, "temperature", "generationConfig.maxOutputTokens"])
BODIES = st.dictionaries(FIELDS, VALUES | st.dictionaries(FIELDS, VALUES, max_size=3), max_size=3)


def limits(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where a body has the limit."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from limits(inner, (*path, name))
    elif value == LIMIT:
        yield path


def sent(api: str, body: dict[str, Any], fill: Fill | None) -> Any:
    endpoint = Endpoint("e", "p", api, "http://127.0.0.1:1", "m", body=body)
    return json.loads(DIALECTS[api].build(endpoint, Ask(MESSAGES, LIMIT, fill=fill)).body)


@pytest.mark.parametrize("fill", [None, Fill("a", "b")], ids=["asked", "gap"])
@pytest.mark.parametrize("api", APIS)
@given(body=BODIES)
def test_what_is_let_through_leaves_the_limit_alone(api: str, fill: Fill | None, body: dict[str, Any]) -> None:
    (place,) = limits(sent(api, {}, fill))
    refused = DIALECTS[api].own_in(body)
    assert refused == sorted(set(refused))
    for path in refused:
        body.pop(path[0], None)
    assert DIALECTS[api].own_in(body) == []
    assert list(limits(sent(api, body, fill))) == [place]


@pytest.mark.parametrize("api", APIS)
def test_the_limit_itself_is_not_for_a_scenario_to_set(api: str) -> None:
    whole = sent(api, {}, None)
    (place,) = limits(whole)
    assert place in DIALECTS[api].own_in(whole)

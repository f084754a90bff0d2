"""What responses say is left of their limits, in the headers of each provider."""

from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.providers import headroom as headroom_module
from latbench.providers.headroom import KINDS, Headroom, headroom

S = 1_000_000_000
DATE = {"date": "Thu, 21 Aug 2025 12:40:00 GMT"}
OPENAI = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-limit-tokens": "150000",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-reset-tokens": "6m0s",
}
OPENAI_SAYS = {"requests": Headroom(60, 59, S), "tokens": Headroom(150_000, 149_984, 360 * S)}


def three(name: str, *values: str) -> dict[str, str]:
    return {name.format(part): value for part, value in zip(("limit", "remaining", "reset"), values, strict=True)}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"content-type": "text/event-stream"}, {}),
        (OPENAI, OPENAI_SAYS),
        (
            three("x-ratelimit-{}-project-tokens", "9000", "8000", "250ms"),
            {"project_tokens": Headroom(9000, 8000, S // 4)},
        ),
        (three("x-ratelimit-{}-tokens_usage_based", "9", "8", "1s"), {"tokens_usage_based": Headroom(9, 8, S)}),
        (
            DATE | three("anthropic-ratelimit-requests-{}", "50", "49", "2025-08-21T12:40:59Z"),
            {"requests": Headroom(50, 49, 59 * S)},
        ),
        (
            three("anthropic-ratelimit-input-tokens-{}", "30000", "0", "2025-08-21T12:40:59Z"),
            {"input_tokens": Headroom(30_000, 0, None)},
        ),
        (
            three("anthropic-ratelimit-output-tokens-{}", "8000", "7000", "?")
            | three("anthropic-ratelimit-tokens-{}", "38000", "37000", "?")
            | three("anthropic-ratelimit-unified-{}", "1", "1", "1"),
            {"output_tokens": Headroom(8000, 7000), "tokens": Headroom(38_000, 37_000)},
        ),
        (
            three("anthropic-priority-input-tokens-{}", "10", "9", "")
            | {"anthropic-priority-output-tokens-limit": "5"},
            {"priority_input_tokens": Headroom(10, 9), "priority_output_tokens": Headroom(5)},
        ),
        (  # Azure: seconds as a plain number, and figures that it does not know
            three("x-ratelimit-{}-tokens", "80000", "79000", "33") | three("x-ratelimit-{}-requests", "-1", "-1", "0"),
            {"tokens": Headroom(80_000, 79_000, 33 * S)},
        ),
        (three("x-ratelimit-{}-requests", "0", "0", "0"), {}),
        ({"x-ratelimit-remaining-requests": "-1"}, {}),
        (  # Groq: a day
            three("x-ratelimit-{}-requests", "14400", "14370", "2m59.56s"),
            {"requests_day": Headroom(14_400, 14_370, 179_560_000_000)},
        ),
        (  # a window that ends at once
            three("x-ratelimit-{}-requests", "500", "499", "55s"),
            {"requests": Headroom(500, 499, 55 * S)},
        ),
        (
            DATE | three("anthropic-ratelimit-requests-{}", "4000", "3999", "2025-08-21T12:42:01Z"),
            {"requests": Headroom(4000, 3999, 121 * S)},
        ),
        (three("x-ratelimit-{}-requests", "500", "500", "1h1s"), {"requests_day": Headroom(500, 500, 3601 * S)}),
        (three("x-ratelimit-{}-requests", "60", "60", "121s"), {"requests": Headroom(60, 60, 121 * S)}),
        ({"x-ratelimit-reset-requests": "121s"}, {"requests": Headroom(None, None, 121 * S)}),
        (three("x-ratelimit-{}-requests-minute", "500", "499", "150s"), {"requests": Headroom(500, 499, 150 * S)}),
        (three("x-ratelimit-{}-requests", "14400", "14400", "0s"), {"requests": Headroom(14_400, 14_400, 0)}),
        (
            three("x-ratelimit-{}-requests-day", "14400", "14399", "33011.382867")
            | three("x-ratelimit-{}-tokens-minute", "60000", "59000", "11.5"),
            {
                "requests_day": Headroom(14_400, 14_399, 33_011_382_867_000),
                "tokens": Headroom(60_000, 59_000, 11_500_000_000),
            },
        ),
        (
            {"x-ratelimit-limit-tokens-minute": "500000", "x-ratelimit-remaining-tokens-minute": "499000"},
            {"tokens": Headroom(500_000, 499_000)},
        ),
        ({"x-ratelimit-remaining": "7"}, {"unknown": Headroom(None, 7, None)}),
        (DATE | three("x-ratelimit-{}", "50", "0", "1755780060000"), {"unknown": Headroom(50, 0, 60 * S)}),
        (three("x-ratelimit-{}", "50", "0", "1755780060"), {"unknown": Headroom(50, 0, None)}),
        ({f"llm_provider-{name}": value for name, value in OPENAI.items()}, OPENAI_SAYS),
        (
            {"x-ratelimit-limit-requests": "10", "llm_provider-x-ratelimit-remaining-requests": "3"},
            {"requests": Headroom(10)},
        ),
        (
            {f"llm_provider-{name}": value for name, value in DATE.items()}
            | three("llm_provider-anthropic-ratelimit-tokens-{}", "9", "8", "2025-08-21T12:40:01Z"),
            {"tokens": Headroom(9, 8, S)},
        ),
    ],
)
def test_headers(headers: dict[str, str], expected: dict[str, Headroom]) -> None:
    assert headroom(headers) == expected


@pytest.mark.parametrize("value", ["", " ", "x", "1e9", "0x10", "٣", "9" * 16, "1,000", "1.5", "+5", "²"])
def test_hostile_counts_are_ignored(value: str) -> None:
    assert headroom({"x-ratelimit-limit-tokens": value, "anthropic-ratelimit-requests-remaining": value}) == {}


@pytest.mark.parametrize("value", ["", "-5", "soon", "9" * 30, "999999999999h", "9999999999", "1d"])
def test_hostile_resets_are_ignored(value: str) -> None:
    assert headroom({"x-ratelimit-limit-tokens": " 5 ", "x-ratelimit-reset-tokens": value}) == {"tokens": Headroom(5)}


NAMES = [
    name.format(part)
    for name in ("x-ratelimit-{}-requests", "x-ratelimit-{}-tokens", "anthropic-ratelimit-tokens-{}", "x-ratelimit-{}")
    for part in ("limit", "remaining", "reset")
]


@given(
    st.dictionaries(
        st.sampled_from([*NAMES, *(f"llm_provider-{name}" for name in NAMES), "date"]),
        st.text() | st.integers().map(str) | st.floats().map(str) | st.datetimes().map(lambda at: at.isoformat() + "Z"),
    )
)
def test_anything_is_read(headers: dict[str, str]) -> None:
    for kind, one in headroom(headers).items():
        assert kind in KINDS
        assert one.limit is None or 0 < one.limit < 10**15
        assert one.remaining is None or 0 <= one.remaining < 10**15
        assert one.reset_ns is None or 0 <= one.reset_ns < 2**63


KNOWN = sorted(headroom_module._NAMES)
ODD_NAMES = [
    *("content-type", "date", "retry-after", "llm_provider-date", "llm_provider-", "x-ratelimit-limit-images"),
    *(f"llm_provider-llm_provider-{name}" for name in NAMES),
    *(f"x-{name}" for name in NAMES),
    *(f"{name}-" for name in NAMES),
    *(name.title() for name in NAMES),
]


@given(
    st.dictionaries(st.one_of(st.sampled_from(ODD_NAMES), st.text(max_size=3)), st.sampled_from(["5", "1s", "x", ""])),
    st.dictionaries(st.sampled_from(KNOWN), st.sampled_from(["5", "0", "1s", "6m0s", "x"]), max_size=2),
)
def test_what_names_no_limit_is_passed_over_as_if_it_had_been_read(odd: dict[str, str], known: dict[str, str]) -> None:
    for headers in (odd, known, odd | known):
        found = headroom(headers)
        with mock.patch.object(headroom_module, "_NAMES", frozenset(headers)):
            assert headroom(headers) == found


@pytest.mark.parametrize("name", KNOWN)
def test_every_known_name_is_read(name: str) -> None:
    assert len(headroom({name: "5", "content-type": "text/event-stream"})) == 1

"""Thresholds in the reports and as JUnit XML, hostile names included."""

import copy
import io
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from latbench.report import junit, markdown, text
from latbench.report.thresholds import lines, rows, tally, worst

EVIL = 'e|v<il>&"\x1b[31m\x00]]>\ufffe'
BASE: dict[str, Any] = {"endpoint": "acme", "step": 0, "task": None, "n": 400, "need": None, "why": None}
PASSED = BASE | {"expr": "ttft p95 < 800ms", "value": 512.3, "ci95": [480.0, 560.0], "result": "pass", "unit": "ms"}
FAILED = BASE | {"expr": "rate_limited == 0", "value": 3, "ci95": None, "result": "fail", "unit": ""}
OPEN = BASE | {"expr": "error_rate < 1%", "value": 0.0, "ci95": [0.0, 0.0362], "result": "inconclusive", "need": 388}
OPEN |= {"n": 100, "unit": "share"}
SHORT = BASE | {"expr": "ttft p99 < 1s", "value": None, "ci95": [90.0, None], "result": "inconclusive", "unit": "ms"}
SHORT |= {"why": "p99 needs at least 368 values, there are 40", "endpoint": EVIL, "step": 1}


def rendered(what: Any, summary: dict[str, Any]) -> str:
    out = io.StringIO()
    what.render(summary, out)
    return out.getvalue()


@pytest.fixture
def judged(one_step: dict[str, Any]) -> dict[str, Any]:
    summary = copy.deepcopy(one_step)
    summary["thresholds"] = [PASSED, FAILED, OPEN, SHORT]
    return summary


def test_in_words() -> None:
    found = [PASSED, FAILED, OPEN]
    assert tally(found) == "1 failed, 1 inconclusive, 1 passed"
    assert [worst(part) for part in (found, [PASSED, OPEN], [PASSED])] == ["fail", "inconclusive", "pass"]
    assert list(lines(found)) == [
        ("fail", "rate_limited == 0: 3 (acme)"),
        (
            "inconclusive",
            "error_rate < 1%: 0.00 %, 95 % interval 0.00 % to 3.62 % (acme); about 388 would tell, there are 100",
        ),
        ("pass", "ttft p95 < 800ms: 512.3 ms, 95 % interval 480.0 to 560.0 (acme)"),
    ]
    assert rows([SHORT | {"endpoint": "b"}]) == [
        ["ttft p99 < 1s", "inconclusive", "b", "1", "n/a", "above 90.0", SHORT["why"]]
    ]
    dollars = BASE | {"expr": "usd < 5", "value": 0.01234, "ci95": None, "result": "pass", "unit": "USD"}
    rate = BASE | {"expr": "goodput > 1/s", "value": 2.5, "ci95": [1.0, 4.0], "result": "pass", "unit": "/s"}
    assert [line for _, line in lines([dollars, rate])] == [
        "usd < 5: 0.01234 USD (acme)",
        "goodput > 1/s: 2.50/s, 95 % interval 1.00 to 4.00 (acme)",
    ]
    below = SHORT | {"ci95": [None, 95.5], "why": None}
    assert "n/a, 95 % interval below 95.5 (" in next(lines([below]))[1]
    open_ended = OPEN | {"need": None}
    assert "too few to tell" in next(lines([open_ended]))[1]
    assert "no interval is known" in next(lines([open_ended | {"ci95": None}]))[1]


def test_they_come_right_after_the_verdict(judged: dict[str, Any]) -> None:
    shown = rendered(text, judged)
    assert shown.index("verdict:") < shown.index("thresholds: 1 failed, 2 inconclusive, 1 passed")
    assert shown.index("thresholds:") < shown.index("scenario code-assistant")
    assert max(map(len, shown.splitlines())) <= 80
    assert "\x1b" not in shown
    page = rendered(markdown, judged)
    assert page.index("**Thresholds: 1 failed") < page.index("Run `3f2a9c`")
    assert "| error\\_rate &lt; 1% | inconclusive | acme | 0 | 0.00 % | 0.00 % to 3.62 % |" in page
    assert "e\\|v&lt;il&gt;" in page
    judged["thresholds"] = []
    assert "hresholds" not in rendered(text, judged) + rendered(markdown, judged)


def test_junit(judged: dict[str, Any]) -> None:
    judged["run"] |= {"labels": {EVIL: EVIL}}
    root = ET.fromstring(rendered(junit, judged))
    suite = root[0]
    assert (root.tag, suite.tag, suite.get("timestamp")) == ("testsuites", "testsuite", "2026-11-22T14:00:00")
    for one in (root, suite):
        assert [one.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["5", "1", "2", "0"]
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == ["the run is valid", *(one["expr"] for one in judged["thresholds"])]
    assert [case[0].tag for case in cases] == ["system-out", "system-out", "failure", "error", "error"]
    assert cases[2][0].get("message") == "fail: rate_limited == 0: 3 (acme)"
    assert cases[3][0].get("type") == "inconclusive"
    assert cases[4].get("classname") == 'latbench.e|v<il>&"]]>.step 1'
    assert all(case.get("time") == "0" for case in cases)
    assert ("window", "peak") in {(one.get("name"), one.get("value")) for one in suite.iter("property")}


def test_an_invalid_run_is_an_error(one_step: dict[str, Any]) -> None:
    summary = copy.deepcopy(one_step)
    reason = {"code": "dropped", "severity": "invalid", "value": 0.02, "limit": 0.01, "advice": "use more workers"}
    summary["validity"] |= {"verdict": "invalid", "reasons": [reason]}
    case = ET.fromstring(rendered(junit, summary))[0].find("testcase")
    assert case is not None
    assert (case[0].tag, case[0].get("type")) == ("error", "invalid")
    assert case[0].text == "invalid: dropped: 0.02 (limit 0.01); use more workers"
    summary["validity"] |= {"verdict": "valid", "reasons": []}
    (case,) = ET.fromstring(rendered(junit, summary))[0].findall("testcase")
    assert len(case) == 0

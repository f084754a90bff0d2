"""The scenarios that come with latbench run, only shorter, and lead with the metrics that they are about."""

from typing import Any

import pytest
from harness import ROOT, Cli, closes

pytestmark = [pytest.mark.timeout(110), pytest.mark.long]

SHORT: dict[str, tuple[tuple[str, ...], dict[str, Any], tuple[str, ...]]] = {
    "ide-completion": (("duration: 100s", "duration: 4s"), {"shape": "poisson"}, ("TTFT", "end to end")),
    "chat": (("duration: 90s", "requests: 4"), {"shape": "sessions"}, ("TTFT", "TPOT")),
    "ci-burst": (("requests: 150", "requests: 50"), {"shape": "burst"}, ("end to end", "TTFT")),
    "nightly-batch": (
        ("requests: 200", "requests: 24"),
        {"shape": "closed", "concurrency": 16},
        ("total time", "per minute", "USD per 1,000 tokens"),
    ),
}


@pytest.mark.parametrize("name", SHORT)
def test_it_runs_and_leads_with_its_metrics(cli: Cli, name: str) -> None:
    (old, new), shape, lead = SHORT[name]
    text = (ROOT / "scenarios" / f"{name}.yaml").read_text()
    assert text.count(old) == 1
    cli.write("scenarios/short.yaml", text.replace(old, new))
    done = cli.run("run", "short", "--json")
    assert done.code == 0, done.err
    summary = done.summary
    assert closes(summary)
    (only,) = summary["steps"]
    assert shape.items() <= only.items()
    (block,) = only["endpoints"].values()
    assert block["outcomes"]["ok"] == sum(block["outcomes"].values()) > 0
    report = cli.run("report").out
    places = [report.index(word) for word in lead]
    assert places == sorted(places), "in this order"
    assert places[-1] < report.index("throughput:"), "before anything else"

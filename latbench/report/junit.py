"""The verdict and the thresholds as JUnit XML, for the test page of a CI.

One suite a run. The run's validity is its first case, each threshold in each place another. What failed is a failure;
what is invalid or inconclusive is an error: the test could not tell, which is not a pass. Nothing hostile gets through:
the text is cleaned of what a terminal or XML would not take, and the library escapes the rest.
"""

from collections.abc import Mapping
from typing import Any, TextIO
from xml.etree import ElementTree as ET

from latbench.report import figures, thresholds
from latbench.report.text import clean


def render(summary: Mapping[str, Any], out: TextIO) -> None:
    """Write the suite."""
    run, cases = summary["run"], [_validity(summary), *map(_threshold, summary["thresholds"])]
    totals = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": str(sum(case.find("error") is not None for case in cases)),
        "skipped": "0",
        "time": f"{run['duration_s'] or 0:.3f}",
    }
    root = ET.Element("testsuites", {"name": "latbench", **totals})
    started = clean(run["started_at"]).removesuffix("Z")
    suite = ET.SubElement(root, "testsuite", {"name": clean(run["name"]), "timestamp": started, **totals})
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(run):
        ET.SubElement(properties, "property", name=clean(name), value=clean(value))
    suite.extend(cases)
    ET.indent(root)
    out.write('<?xml version="1.0" encoding="UTF-8"?>\n')
    out.write(ET.tostring(root, encoding="unicode") + "\n")


def _properties(run: Mapping[str, Any]) -> list[tuple[str, object]]:
    known = [(key, run[key]) for key in ("id", "scenario", "state", "window") if run[key] is not None]
    return [*known, *((f"label.{key}", value) for key, value in run["labels"].items())]


def _validity(summary: Mapping[str, Any]) -> ET.Element:
    case = _case("latbench.run", "the run is valid")
    lines = [f"{severity}: {line}" for severity, line in figures.reasons(summary["validity"]["reasons"])]
    if summary["validity"]["verdict"] == "invalid":
        _mark(case, "error", "invalid", "the run is invalid", lines)
    elif lines:
        ET.SubElement(case, "system-out").text = "\n".join(map(clean, lines))
    return case


def _threshold(one: Mapping[str, Any]) -> ET.Element:
    case = _case(f"latbench.{one['endpoint']}.step {one['step']}", one["expr"])
    ((result, line),) = thresholds.lines([one])
    if result == "pass":
        ET.SubElement(case, "system-out").text = clean(line)
    else:
        _mark(case, "failure" if result == "fail" else "error", result, f"{result}: {line}", [line])
    return case


def _case(group: str, name: str) -> ET.Element:
    return ET.Element("testcase", classname=clean(group), name=clean(name), time="0")


def _mark(case: ET.Element, tag: str, kind: str, message: str, lines: list[str]) -> None:
    ET.SubElement(case, tag, type=kind, message=clean(message)).text = "\n".join(map(clean, lines))

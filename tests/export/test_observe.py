"""`make observe`, once: real runs are watched by a real Prometheus, and the pictures of the documents are drawn."""

import sys
from xml.etree import ElementTree

import pytest
from export_kit import GRAFANA, needs_prometheus
from harness import Cli

SVG = "{http://www.w3.org/2000/svg}"
MAY_BE_EMPTY = {"Error share", "Hits by provider and kind"}  # so short a run meets no limit


@needs_prometheus
@pytest.mark.long
@pytest.mark.timeout(400)
def test_pictures_are_drawn_from_what_prometheus_saw(cli: Cli) -> None:
    command = (sys.executable, str(GRAFANA / "observe.py"), "--once", str(cli.cwd), "--seconds", "4")
    done = cli.start(program=command).wait(300)
    assert done.code == 0, done.err
    for name in ("live-run", "boards"):
        panels = ElementTree.parse(cli.cwd / f"{name}.svg").getroot().findall(f"{SVG}g")
        assert len(panels) == 10
        for panel in panels:
            title = panel.findtext(f"{SVG}text")
            drawn = len(panel.findall(f"{SVG}polyline")) + len(panel.findall(f"{SVG}rect"))
            assert drawn or title in MAY_BE_EMPTY, f"{name}: {title}"

"""The boards and rules by their form: built from code, numbered, described, fed by series that exist."""

import re
from typing import Any

import pytest
import yaml
from export_kit import BOARDS, GRAFANA, RULES, built_boards, expressions, needs_prometheus, panels, promtool

from latbench.metrics.series import SERIES

UNIT_TESTS = sorted((GRAFANA / "prometheus").glob("*_test.yml"))
OF_SERVERS = ("vllm", "sglang", "llamacpp")
WITH_A_LEGEND = ("timeseries", "barchart")
NAMES = {
    name
    for one in SERIES
    for name in (
        [one.name] if one.kind != "histogram" else [f"{one.name}_{part}" for part in ("bucket", "sum", "count")]
    )
}


def charts(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in panels(board) if panel["type"] != "row"]


def test_the_json_is_what_the_code_builds() -> None:
    built = built_boards()
    assert set(built) == set(BOARDS)
    for name, text in built.items():
        found = (GRAFANA / "dashboards" / f"{name}.json").read_text()
        assert text == found, f"{name}.json is out of date: run `make dashboards`"


def test_boards_are_told_apart() -> None:
    assert set(BOARDS) >= {"live", "compared", "peak", "limits", "cost"}
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS)
    assert len({board["title"] for board in BOARDS.values()}) == len(BOARDS)
    for board in BOARDS.values():
        assert board["schemaVersion"] == 41
        assert board["description"]


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_says_what_it_shows(name: str) -> None:
    board = BOARDS[name]
    found = list(panels(board))
    assert len({panel["id"] for panel in found}) == len(found)
    for panel in charts(board):
        assert panel["title"]
        assert len(panel["description"]) > 15, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"]
        for target in panel["targets"]:
            assert target["legendFormat"], panel["title"]
            assert target["datasource"]["uid"] == "${datasource}"
        if panel["type"] in WITH_A_LEGEND:
            assert panel["options"]["legend"]["showLegend"] is True, panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_panels_do_not_lie_on_one_another(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(BOARDS[name]):
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_has_its_variables_and_annotations(name: str) -> None:
    listed = BOARDS[name]["templating"]["list"]
    assert [one["name"] for one in listed[:6]] == ["datasource", "scenario", "window", "provider", "endpoint", "model"]
    assert listed[0]["type"] == "datasource"
    used = set(re.findall(r"\$(\w+)", " ".join(expr for place, expr in expressions() if place.startswith(name))))
    assert used - {"__rate_interval", "__range"} <= {one["name"] for one in listed}
    titles = [one["name"] for one in BOARDS[name]["annotations"]["list"]]
    assert titles == ["Run starts", "Step", "Run ends", "Model or fingerprint changes"]


def test_every_series_in_boards_and_rules_is_one_that_is_exported() -> None:
    text = " ".join(expr for _, expr in expressions()) + RULES.read_text()
    found = set(re.findall(r"(?<![:\w])((?:latbench|gen_ai)_\w+)(?=[{\[)\s])", text)) - {"gen_ai_token_type"}
    found = {name for name in found if not name.startswith(("gen_ai_request", "gen_ai_provider"))}
    assert found <= NAMES, found - NAMES
    others = set(re.findall(r"\b(\w+):\w+", " ".join(expr for _, expr in expressions())))
    assert others <= set(OF_SERVERS)


def test_every_series_is_on_a_board_or_is_known_not_to_be() -> None:
    text = " ".join(expr for _, expr in expressions())
    text += " ".join(str(board["templating"]) for board in BOARDS.values())
    unseen = {one.name for one in SERIES if one.name not in text}
    assert unseen == {
        "latbench_run_started_timestamp_seconds",
    }


@needs_prometheus
def test_rules_do_what_their_unit_tests_say() -> None:
    promtool("check", "rules", RULES)
    promtool("check", "config", GRAFANA / "prometheus" / "prometheus.yml")
    promtool("test", "rules", *UNIT_TESTS)


def test_every_rule_has_a_unit_test() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    text = "".join(path.read_text() for path in UNIT_TESTS)
    told = [one for path in UNIT_TESTS for one in yaml.safe_load(path.read_text())["tests"]]
    firing = {case["alertname"] for one in told for case in one.get("alert_rule_test", ()) if case.get("exp_alerts")}
    assert firing == {rule["alert"] for rule in rules if "alert" in rule}
    assert all(rule["record"] in text for rule in rules if "record" in rule)


def test_compose_binds_the_loopback_and_knows_no_password() -> None:
    text = (GRAFANA / "compose.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    assert set(services) == {"prometheus", "grafana", "worker"}
    assert all(service["network_mode"] == "host" and "ports" not in service for service in services.values())
    assert "--web.listen-address=127.0.0.1:9090" in services["prometheus"]["command"]
    assert services["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert services["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"].startswith("${GRAFANA_PASSWORD:?")
    assert services["worker"]["environment"]["LATBENCH_SECRET"].startswith("${LATBENCH_SECRET:?")
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())["datasources"][0]
    assert source["url"] == "http://127.0.0.1:9090"
    assert "password" not in source

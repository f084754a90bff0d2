"""A scenario with everything written out, as JSON can say it: what is stored with a run, and what is hashed."""

from collections.abc import Mapping
from typing import Any

from latbench.metrics.catalogue import BY_NAME
from latbench.model.load import Trace
from latbench.scenario.grammar import format_duration
from latbench.scenario.load import written
from latbench.scenario.schema import EndpointSettings, FromEnvironment, OutputSettings, Scenario


def resolved(scenario: Scenario, digests: Mapping[str, str]) -> dict[str, Any]:
    """The scenario, defaults written out, without secrets. It is itself a scenario.

    `digests` has the SHA-256 of trace files by their paths as written.
    """
    aside = {"endpoints", "timeouts", "load", "endpoints_order", "slo", "output", "tools"}
    data = scenario.model_dump(mode="json", exclude=aside, exclude_none=True)
    for key in ("lead", "thresholds"):
        if not data[key]:
            del data[key]
    if scenario.needle is None:
        data.pop("needle", None)
    if scenario.loops:
        data["tools"] = [tool.model_dump() | {"delay": format_duration(tool.delay)} for tool in scenario.tools]
    if scenario.repeat == 1:
        del data["repeat"]
    order = scenario.endpoints_order
    load = []
    for step in scenario.steps():
        entry = written(step)
        if isinstance(step.shape, Trace) and step.shape.path in digests:
            entry["sha256"] = digests[step.shape.path]
        load.append(entry)
    return data | {
        "endpoints": [_endpoint(settings) for settings in scenario.endpoints],
        "output": _output(scenario.output),
        "timeouts": {key: format_duration(ns) for key, ns in scenario.timeouts.model_dump().items()},
        "drain": format_duration(scenario.drain),
        "load": load,
        "endpoints_order": "together"
        if order is None
        else {"alternate": {"slice": format_duration(order.alternate.slice)}},
        "slo": {name: _limit(name, limit) for name, limit in scenario.slo.items()},
    }


def _limit(name: str, limit: float) -> str | float:
    return format_duration(int(limit)) if BY_NAME[name].unit == "ms" else limit


def _output(output: OutputSettings) -> dict[str, Any]:
    modes = list(output.mode)
    written: dict[str, Any] = {"max_tokens": output.max_tokens, "mode": modes[0] if len(modes) == 1 else modes}
    return written if output.schema_ is None else written | {"schema": output.schema_}


def _endpoint(settings: EndpointSettings) -> dict[str, Any]:
    endpoint = settings.model_dump(mode="json", exclude={"body", "headers"}, exclude_none=True)
    if not settings.api_key_env:
        del endpoint["api_key_env"]
    endpoint["provider"] = settings.provider or settings.name
    endpoint["headers"] = {
        name: {"env": value.env} if isinstance(value, FromEnvironment) else value
        for name, value in settings.headers.items()
    }
    # Not with the rest, because a null in the body is meant.
    return endpoint | {"body": dict(settings.body)}

"""`base_url: sim`: the simulated endpoint, started beside a run. Imports no Locust."""

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from latbench.cluster.children import start_announced
from latbench.model.request import Endpoint
from latbench.sim.options import Options, command

BASE_PATHS = {
    "azure-openai": "",
    "bedrock": "",
    "cohere": "/v2",
    "gemini": "/v1beta",
    "mistral": "/mistral/v1",
    "ollama": "",
}
"""Where the simulated endpoint has an API whose base is not `/v1`. (Mistral's own would be OpenAI's, too.)"""

_READY = "latbench sim: "
_START_S = 15.0


@dataclass(frozen=True)
class SimulatedModel:
    """What the simulated endpoint answers to needle trials: by a file, as a model of this name, its own if empty."""

    answers: Path
    name: str = ""


def resolve_sim(
    endpoints: list[Endpoint], model: SimulatedModel | None = None
) -> "tuple[list[Endpoint], subprocess.Popen[bytes] | None]":
    """The endpoints with `sim` replaced by the address of a simulated endpoint, started where one is named.

    The process dies with this one; whoever asked for it ends it.
    """
    if all(endpoint.base_url != "sim" for endpoint in endpoints):
        return endpoints, None
    options = Options(with_parent=True)
    if model is not None:
        options = replace(options, needle=str(model.answers), needle_model=model.name or options.needle_model)
    process, url = start_announced(command(options), _READY, _START_S)
    root = url.removesuffix("/v1")
    resolved = [
        msgspec.structs.replace(one, base_url=root + BASE_PATHS.get(one.api, "/v1")) if one.base_url == "sim" else one
        for one in endpoints
    ]
    return resolved, process

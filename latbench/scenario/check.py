"""A scenario with its prompts, and whatever is wrong with either said in one go.

What stands in a file can be wrong in several ways at once: a key that nobody knows, a trace or prompts that are not
there, a variable that is not set. Each is found by another check, and a check that finds something must not keep the
others from being made: as far as a section can be read by itself, the files that it names are looked at, too.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from latbench.model.errors import UserError
from latbench.scenario.files import Document, read_yaml
from latbench.scenario.load import LoadEntry
from latbench.scenario.loader import NO_FLAGS, Flags, Loaded, check_environment, load_scenario, not_there, read_traces
from latbench.scenario.prompts import PromptSet, load_prompts
from latbench.scenario.schema import EndpointSettings, PromptSettings

_Section = TypeVar("_Section", bound=BaseModel)


def load_whole(
    path: Path, flags: Flags = NO_FLAGS, environ: Mapping[str, str] | None = None
) -> tuple[Loaded, PromptSet]:
    """Read a scenario and its prompts, and with an `environ` hold it against that.

    Raises UserError, one line for each mistake.
    """
    try:
        loaded = load_scenario(path, flags)
    except UserError as fault:
        further = _further(path, flags, environ)
        raise UserError("\n".join(dict.fromkeys([*str(fault).split("\n"), *further]))) from fault
    problems: list[str] = []
    if environ is not None:
        problems += _said_by(lambda: check_environment(loaded, environ))
    try:
        prompts = load_prompts(loaded.scenario.prompts, loaded.prompts_base, loaded.where("prompts"))
    except UserError as fault:
        raise UserError("\n".join([*problems, str(fault)])) from fault
    if problems:
        raise UserError("\n".join(problems))
    return loaded, prompts


def _further(path: Path, flags: Flags, environ: Mapping[str, str] | None) -> list[str]:
    """What is wrong with the files and variables that a scenario names which is wrong itself."""
    try:
        document = read_yaml(path)
    except UserError:
        return []  # it has been said, and nothing can be known of the sections
    if not isinstance(document.data, dict):
        return []
    problems = _said_by(lambda: _prompts(document, flags))
    if environ is not None and flags.url is None:  # with --url the endpoints of the file are not used
        endpoints = _sections(document, "endpoints", EndpointSettings)
        problems += not_there(endpoints, path.parent, lambda *key: document.where(key), environ)
    if flags.rate is None and flags.concurrency is None:  # else the load of the file is not used
        entries = _sections(document, "load", LoadEntry)
        problems += _said_by(lambda: read_traces(entries, document, {}))
    return problems


def _prompts(document: Document, flags: Flags) -> None:
    """Read the prompts, if the section says where they are. Raises UserError for what is wrong with them."""
    written = document.data.get("prompts") if flags.prompts is None else {"path": str(flags.prompts)}
    if written is None:
        return  # said already, or needle trials are what is sent
    settings = _valid(PromptSettings, written)
    if settings is not None:
        here = flags.prompts is None
        base = document.path.parent if here else Path.cwd()
        load_prompts(settings, base, document.where(("prompts",)) if here else "--prompts")


def _sections(document: Document, key: str, model: type[_Section]) -> dict[int, _Section]:
    """The entries of a list, by index, that are valid by themselves. A single one may stand there without a list."""
    written = document.data.get(key)
    found = {
        index: _valid(model, entry) for index, entry in enumerate(written if isinstance(written, list) else [written])
    }
    return {index: entry for index, entry in found.items() if entry is not None}


def _valid(model: type[_Section], data: Any) -> _Section | None:  # noqa: ANN401 - any plain data
    try:
        return model.model_validate(data)
    except ValidationError:
        return None


def _said_by(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except UserError as fault:
        return str(fault).split("\n")
    return []

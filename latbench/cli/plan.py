"""`latbench plan`: what a run would send, for how long and at what price. Sends nothing and resolves no secret."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latbench.cli.options import load_options
from latbench.model.errors import UserError
from latbench.needle.trial import Control
from latbench.plan.budget import Limits
from latbench.plan.estimate import Estimate, estimate, smallest_request, too_small
from latbench.plan.power import power
from latbench.report import json as json_report
from latbench.report import plan as plan_report
from latbench.scenario.check import load_whole
from latbench.scenario.loader import Flags, Loaded, find_scenario
from latbench.scenario.prompts import PromptSet
from latbench.trials import Numbered, prompts_of, recipes_of, within_budget

if TYPE_CHECKING:
    from latbench.analysis.needle.promise import Promise


@click.command()
@click.argument("scenario")
@load_options
@click.option("--json", "as_json", is_flag=True, envvar="LATBENCH_PLAN_JSON", help="As JSON.")
def plan(scenario: str, as_json: bool, **flags: str | int | Path | None) -> None:
    """What a run of SCENARIO, a file or a name, would send: arrivals, requests, tokens, price, duration.

    Also which percentiles its requests can support, and how many of them would tell two runs apart. Sends nothing.
    """
    loaded, prompts = load_whole(find_scenario(scenario, Path.cwd()), Flags(**flags))  # type: ignore[arg-type]
    left, trials = "", list[Numbered]()
    if loaded.scenario.needle is not None:
        trials, left = within_budget(loaded, limits_of(loaded), recipes_of(loaded, ""))
        prompts = prompts_of(trials, loaded.scenario.needle)
    else:
        check_budget(loaded, prompts)
    found = estimate_of(loaded, prompts)
    promised = promises_of(loaded, trials)
    if as_json:
        document = plan_report.document(found, power(), loaded.scenario.name, loaded.sha256, promised)
        json_report.render(document, sys.stdout)
    else:
        plan_report.render(found, power(), loaded.scenario.name, sys.stdout, promised, left)


def estimate_of(loaded: Loaded, prompts: PromptSet) -> Estimate:
    """The estimate of a scenario. Raises UserError where a trace names a prompt that is not there."""
    return estimate(
        loaded.steps(prompts),
        [settings.name for settings in loaded.scenario.endpoints],
        loaded.prices(),
        prompts.prompts,
        prompts.weights,
        loaded.scenario.output.max_tokens,
        limits_of(loaded),
        loaded.scenario.seed,
        loaded.tools(),
    )


def promises_of(loaded: Loaded, trials: Sequence[Numbered]) -> "list[Promise]":
    """What needle trials will be able to show, of those that a step gets to; nothing of a scenario without such."""
    settings = loaded.scenario.needle
    if settings is None:
        return []
    most = max(step.requests or len(trials) for step in loaded.scenario.steps())
    sent = Counter((one.recipe.kind, one.recipe.tokens) for one in trials[:most] if one.recipe.control == Control.NONE)
    from latbench.analysis.needle.promise import promise  # with SciPy: a second, which other plans do not need

    return [
        promise(kind, length, count // max(1, len(settings.depths)), settings.depths)
        for (kind, length), count in sorted(sent.items())
        if count >= len(settings.depths)
    ]


def limits_of(loaded: Loaded) -> Limits:
    """The budget of a scenario; without limits where there is none."""
    budget = loaded.budget()
    return Limits() if budget is None else Limits.of(usd=budget.usd, requests=budget.requests, tokens=budget.tokens)


def check_budget(loaded: Loaded, prompts: PromptSet) -> None:
    """Raises UserError where the budget is smaller than any request to an endpoint: nothing could be sent to it."""
    if loaded.budget() is None:
        return
    scenario, limits, prices = loaded.scenario, limits_of(loaded), loaded.prices()
    steps = loaded.steps(prompts)
    for endpoint in loaded.endpoints():
        least = smallest_request(
            endpoint,
            prices.get(endpoint.name),
            steps,
            prompts.prompts,
            prompts.weights,
            scenario.output.max_tokens,
            cold=scenario.cache == "cold",
            tools=loaded.tools(),
        )
        found = too_small(limits, least)
        if found is not None:
            which, why = found
            place = loaded.where("budget", which)
            advice = "every byte counts as a token before it is sent; raise it, or lower output.max_tokens"
            raise UserError(f"{place}: {endpoint.name}: {why} ({advice})")

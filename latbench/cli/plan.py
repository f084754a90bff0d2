"""`latbench plan`: what a run would send, for how long and at what price. Sends nothing and resolves no secret."""

import sys
from pathlib import Path

import click

from latbench.cli.options import load_options
from latbench.plan.budget import Limits
from latbench.plan.estimate import Estimate, estimate
from latbench.report import json as json_report
from latbench.report import plan as plan_report
from latbench.scenario.loader import Flags, Loaded, find_scenario, load_scenario
from latbench.scenario.prompts import PromptSet, load_prompts


@click.command()
@click.argument("scenario")
@load_options
@click.option("--json", "as_json", is_flag=True, envvar="LATBENCH_PLAN_JSON", help="As JSON.")
def plan(scenario: str, as_json: bool, **flags: str | int | Path | None) -> None:
    """What a run of SCENARIO, a file or a name, would send: arrivals, requests, tokens, price, duration.

    Also which percentiles its requests can support. Sends nothing.
    """
    loaded = load_scenario(find_scenario(scenario, Path.cwd()), Flags(**flags))  # type: ignore[arg-type]
    prompts = load_prompts(loaded.scenario.prompts, loaded.prompts_base, loaded.where("prompts"))
    found = estimate_of(loaded, prompts)
    if as_json:
        json_report.render(plan_report.document(found, loaded.scenario.name, loaded.sha256), sys.stdout)
    else:
        plan_report.render(found, loaded.scenario.name, sys.stdout)


def estimate_of(loaded: Loaded, prompts: PromptSet) -> Estimate:
    """The estimate of a scenario. Raises UserError where a trace names a prompt that is not there."""
    budget = loaded.budget()
    return estimate(
        loaded.steps(prompts),
        [settings.name for settings in loaded.scenario.endpoints],
        loaded.prices(),
        prompts.prompts,
        prompts.weights,
        loaded.scenario.output.max_tokens,
        Limits() if budget is None else Limits.of(usd=budget.usd, requests=budget.requests, tokens=budget.tokens),
        loaded.scenario.seed,
    )

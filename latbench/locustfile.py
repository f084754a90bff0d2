"""latbench for people who live in Locust: `locust -f …/latbench/locustfile.py --latbench-url http://host/v1 …`

Locust's own options and web UI rule the load: each user is one slot of closed-loop concurrency, and the run time (or
the stop button) ends the run. What is measured is stored and summed up as `latbench run` does it. With `--master` and
`--worker`, or with `--processes`, every worker gets an engine of its own, started in the `init` event: after Locust has
forked.
"""

import os
import sys
from argparse import ArgumentParser
from pathlib import Path

import gevent
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from latbench.cluster import locust_worker
from latbench.cluster.children import end, start_engine
from latbench.cluster.locust_master import Coordinator
from latbench.model.errors import UserError
from latbench.report import text
from latbench.run import Interrupted, Plan, Session
from latbench.scenario.loader import Flags, check_environment, find_scenario, load_scenario
from latbench.scenario.prompts import load_prompts
from latbench.scenario.schema import Step
from latbench.simulated import resolve_sim
from latbench.store.sqlite import Store

_FINISH_S = 5.0


class EndpointUser(locust_worker.SlotUser):
    """The user class that Locust finds in this file: the only one, or it would spawn some of each."""


@events.init_command_line_parser.add_listener
def _options(parser: ArgumentParser) -> None:
    """Options of ours, beside Locust's. They take environment variables as Locust's do."""
    add = parser.add_argument
    add("--latbench-scenario", default="quickstart", env_var="LATBENCH_SCENARIO", help="A scenario's name or file.")
    add(
        "--latbench-url", default="", env_var="LATBENCH_RUN_URL", help="Measure this base URL instead of its endpoints."
    )
    add("--latbench-model", default="", env_var="LATBENCH_RUN_MODEL", help="The model to ask for.")
    add("--latbench-api-key-env", default="", help="The environment variable that holds the key.")
    add("--latbench-store", default="latbench.db", help="The store.")
    add("--latbench-out", default="", help="The run directory itself (absent or empty); for a single run.")


@events.init.add_listener
def _init(environment: Environment, **_: object) -> None:
    """Start an engine where users will run, and the coordinator where results come together."""
    if not isinstance(environment.runner, WorkerRunner):
        try:
            _Master(environment)
        except UserError as fault:
            sys.stderr.write(f"latbench: {fault}\n")
            sys.exit(fault.exit_code)
    if not isinstance(environment.runner, MasterRunner):
        bridge = locust_worker.Bridge(environment, start_engine())
        environment.events.quit.add_listener(lambda **_: bridge.close())


class _Master:
    """One run for each time that Locust's test is started."""

    def __init__(self, environment: Environment) -> None:
        options = environment.parsed_options
        assert options is not None
        self._environment = environment
        flags = Flags(
            url=options.latbench_url or None,
            model=options.latbench_model or None,
            api_key_env=options.latbench_api_key_env or None,
        )
        loaded = load_scenario(find_scenario(options.latbench_scenario, Path.cwd()), flags)
        check_environment(loaded, os.environ)
        prompts = load_prompts(loaded.scenario.prompts, loaded.prompts_base, loaded.where("prompts"))
        endpoints, sim = resolve_sim(loaded.endpoints())
        out = Path(options.latbench_out) if options.latbench_out else None
        self._plan = Plan(loaded, prompts, endpoints, 1, Path(options.latbench_store), out)
        self._coordinator = Coordinator(environment, 1)
        self._running: gevent.Greenlet[..., None] | None = None
        environment.events.test_start.add_listener(self._start)
        environment.events.test_stopping.add_listener(self._stop)
        if sim is not None:
            environment.events.quit.add_listener(lambda **_: end(sim, 0.0))

    def _start(self, environment: Environment, **_: object) -> None:
        self._running = gevent.spawn(self._run)

    def _stop(self, environment: Environment, **_: object) -> None:
        """Drain before Locust stops its users; it waits for this listener, so nothing is cut off."""
        self._coordinator.finish()
        if self._running is not None:
            self._running.join(self._plan.loaded.drain_ns / 1e9 + _FINISH_S)

    def _run(self) -> None:
        """The edge of this greenlet: a run that cannot begin stops Locust with one line."""
        runner = self._environment.runner
        assert runner is not None
        if isinstance(runner, MasterRunner):
            self._coordinator.expect(runner.worker_count)
        try:
            with Store(self._plan.store) as store:
                session = Session(self._plan, store)
                session.conduct(self._coordinator, [_elastic(runner.target_user_count, len(self._plan.endpoints))])
                result = session.finish()
        except Interrupted:
            return
        except UserError as fault:
            sys.stderr.write(f"latbench: {fault}\n")
            self._environment.process_exit_code = fault.exit_code
            gevent.spawn(runner.quit)
            return
        text.render(result.summary, sys.stdout, places=(str(self._plan.store), str(result.directory)))
        self._environment.process_exit_code = result.exit_code


def _elastic(users: int, endpoints: int) -> Step:
    """A step without an end of its own: Locust ends it."""
    return Step("closed", max(1, -(-users // endpoints)), None, None, 0, 0)

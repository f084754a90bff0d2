"""latbench for people who live in Locust: `locust -f …/latbench/locustfile.py --latbench-url http://host/v1 …`

Locust's own options, keys, shapes and web UI rule the load: each user is one slot of closed-loop concurrency, and the
run time (or the stop button) ends the run. What is measured is stored and summed up as `latbench run` does it. With
`--master` and `--worker`, or with `--processes`, every worker gets an engine of its own, started in the `init` event:
after Locust has forked. Unlike Locust's, ports bind loopback unless told otherwise, and a master that others can reach
wants a secret.
"""

import os
import signal
import sys
from argparse import ArgumentParser
from pathlib import Path
from types import FrameType

import gevent
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from latbench.cluster import locust_worker
from latbench.cluster.children import end, start_engine
from latbench.cluster.handshake import SECRET_ENV, SHORTEST_SECRET, is_loopback, secret_from
from latbench.cluster.locust_join import LEASE_LOST
from latbench.cluster.locust_master import Coordinator
from latbench.model.errors import ExitCode, UserError
from latbench.model.load import Closed, Step
from latbench.report import text
from latbench.run import Interrupted, Plan, Session
from latbench.scenario.loader import Flags, Loaded, check_environment, find_scenario, load_scenario
from latbench.scenario.prompts import load_prompts
from latbench.simulated import resolve_sim
from latbench.store.errors import StoreError
from latbench.store.sqlite import Store

_FINISH_S = 5.0
_LOOK_S = 0.5
_ENGINE_S = 10.0
_LOOPBACK = "127.0.0.1"


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
    parser.set_defaults(master_bind_host=_LOOPBACK, web_host=_LOOPBACK)  # Locust's own: every address of the machine


@events.init.add_listener
def _init(environment: Environment, **_: object) -> None:
    """Start an engine where users will run, and the coordinator where results come together."""
    master = None
    try:
        secret = secret_from(os.environ)
        if not isinstance(environment.runner, WorkerRunner):
            master = _Master(environment, secret)
    except UserError as fault:
        sys.stderr.write(f"latbench: {fault}\n")
        sys.exit(fault.exit_code)
    if not isinstance(environment.runner, MasterRunner):
        bridge = locust_worker.Bridge(environment, start_engine(), secret)
        if isinstance(environment.runner, WorkerRunner):
            _wait_for_master(bridge)
            leaving = gevent.spawn(_leave_with, bridge, environment)
            environment.events.quit.add_listener(lambda **_: leaving.kill())
        elif master is not None:
            master.wait_for_engine()  # so that its start is no part of the run time
        environment.events.quit.add_listener(lambda **_: bridge.close())


def _leave_with(bridge: locust_worker.Bridge, environment: Environment) -> None:
    """End a worker whose bridge has ended: it could not send anything any more."""
    bridge.closed.wait()
    left = bridge.left_behind
    said = bridge.refused or "its master fell silent" + (f"; what it has not taken is in {left}" if left else "")
    sys.stderr.write(f"latbench worker: {said}\n")
    environment.process_exit_code = ExitCode.USAGE if bridge.refused else LEASE_LOST
    assert environment.runner is not None
    environment.runner.quit()


def _wait_for_master(bridge: locust_worker.Bridge) -> None:
    """Let the first Ctrl-C during a test pass: a terminal sends it to master and workers, and the master drains."""
    passed = False

    def interrupted(number: int, frame: FrameType | None) -> None:
        nonlocal passed
        if passed or not bridge.users:
            signal.default_int_handler(number, frame)
        passed = True

    signal.signal(signal.SIGINT, interrupted)


def _check_bind(runner: object, secret: bytes | None) -> None:
    """Raises UserError where anybody could join a master without proving anything."""
    if isinstance(runner, MasterRunner) and secret is None and not is_loopback(runner.master_bind_host):
        raise UserError(
            f"--master-bind-host {runner.master_bind_host}: others can reach that port: set {SECRET_ENV} to a secret of"
            f" at least {SHORTEST_SECRET} characters, here and where the workers run"
        )


def _check_prompts(loaded: Loaded) -> None:
    """Raises UserError for a scenario of trials: each is sent once, and Locust's users have no end of their own."""
    if loaded.scenario.needle is not None:
        raise UserError(
            f"{loaded.where('needle')}: not with Locust, whose users send for as long as the test runs:"
            f" `latbench needle {loaded.source_path}` sends each trial once"
        )


class _Master:
    """One run for each time that Locust's test is started."""

    def __init__(self, environment: Environment, secret: bytes | None) -> None:
        _check_bind(environment.runner, secret)
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
        _check_prompts(loaded)
        prompts = load_prompts(loaded.scenario.prompts, loaded.prompts_base, loaded.where("prompts"))
        endpoints, sim = resolve_sim(loaded.endpoints())
        out = Path(options.latbench_out) if options.latbench_out else None
        self._plan = Plan(loaded, prompts, endpoints, 1, Path(options.latbench_store), out)
        self._coordinator = Coordinator(environment, 1, secret=secret)
        self._running: gevent.Greenlet[..., None] | None = None
        self._told = self._quits = False
        gevent.spawn(self._say_refusals)
        gevent.signal_handler(signal.SIGINT, self._interrupted)
        environment.events.test_start.add_listener(self._start)
        environment.events.test_stopping.add_listener(self._stop)
        environment.events.quitting.add_listener(self._quitting)
        if sim is not None:
            environment.events.quit.add_listener(lambda **_: end(sim, 0.0))

    def wait_for_engine(self) -> None:
        """Wait until the engine of this process is up; the run will say so if it never is."""
        with gevent.Timeout(_ENGINE_S, False):
            while not self._coordinator.workers:
                gevent.sleep(0.02)

    def _say_refusals(self) -> None:
        """Locust knows a worker that we have refused, and would count on it."""
        said: set[str] = set()
        while True:
            gevent.sleep(_LOOK_S)
            for worker in self._coordinator.refused.keys() - said:
                said.add(worker)
                sys.stderr.write(f"latbench: worker {worker} is refused: {self._coordinator.refused[worker]}\n")

    def _start(self, environment: Environment, **_: object) -> None:
        self._told = False
        self._running = gevent.spawn(self._run, self._running)
        self._running.link_exception(self._crashed)

    def _stop(self, environment: Environment, **_: object) -> None:
        """Drain before Locust stops its users; it waits for this listener, so nothing is cut off."""
        self._told = True
        if self._running is not None and not self._running.ready():
            self._coordinator.finish()
            self._running.join(self._plan.loaded.drain_ns / 1e9 + _FINISH_S)

    def _quitting(self, environment: Environment, **_: object) -> None:
        """Ctrl-C or SIGTERM: drain now, because Locust settles its exit code before it stops."""
        self._quits = True
        self._stop(environment)

    def _interrupted(self) -> None:
        """Ctrl-C: the first is Locust's, the second cancels what is in flight.

        It must meet the greenlet that Locust waits in: Python would raise it in whichever runs.
        """
        if self._quits:
            self._coordinator.interrupt()
        else:
            hub = gevent.get_hub()
            hub.loop.run_callback(hub.parent.throw, KeyboardInterrupt())

    def _crashed(self, greenlet: "gevent.Greenlet[..., None]") -> None:
        """A bug of ours; gevent has printed it."""
        self._end(ExitCode.FAILED)

    def _end(self, code: int) -> None:
        """Keep the exit code; end what Locust is doing, unless it is ending: with a web UI this test, else all."""
        self._environment.process_exit_code = code
        runner = self._environment.runner
        assert runner is not None
        if not self._told:
            gevent.spawn(runner.quit if self._environment.web_ui is None else runner.stop)

    def _run(self, before: "gevent.Greenlet[..., None] | None") -> None:
        """The edge of this greenlet: a run that cannot begin ends Locust's test with one line."""
        if before is not None:
            before.join()
        runner = self._environment.runner
        assert runner is not None
        if isinstance(runner, MasterRunner):
            self._coordinator.expect(runner.worker_count)
        try:
            with Store(self._plan.store) as store:
                session = Session(self._plan, store)
                session.conduct(self._coordinator, [self._elastic(runner.target_user_count)])
                result = session.finish()
        except Interrupted:
            sys.stderr.write("latbench: the test was over before anything was sent\n")
            self._end(ExitCode.INTERRUPTED)
            return
        except (UserError, StoreError) as fault:
            sys.stderr.write(f"latbench: {fault}\n")
            self._end(fault.exit_code)
            return
        text.render(result.summary, sys.stdout, places=(str(self._plan.store), str(result.directory)))
        self._end(result.exit_code)  # of its own: the budget is used up, or no endpoint is left

    def _elastic(self, users: int) -> Step:
        """A step without an end of its own: Locust ends it. Of the scenario's load only the pause is kept."""
        first = self._plan.steps()[0].shape
        think_ns = first.think_ns if isinstance(first, Closed) else 0
        return Step(Closed(max(1, -(-users // len(self._plan.endpoints))), think_ns))

"""The process of the simulated endpoint: `python -m latbench.sim.server`.

A request waits in line for a slot; the headers leave when a slot takes it, the role chunk right before the first token
(as vLLM does), every event when it is due. Due times are absolute and counted from the moment the request was there
whole (or the slot came free), so that no delay of ours adds up. A client that goes away frees its slot at once.

It prints one line when it listens, and logs nothing about requests: `/sim/stats` has the truth.
"""

import asyncio
import ctypes
import gc
import hmac
import itertools
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import click
import uvloop
from aiohttp import web

from latbench.model.errors import UserError
from latbench.sim.alarm import Alarm
from latbench.sim.dialects import Ask, Refused, openai_chat
from latbench.sim.options import HELP, PARAMETERS, Options
from latbench.sim.slots import Slots
from latbench.sim.text import pieces
from latbench.sim.timing import Schedule, Timing

MAX_BODY_BYTES = 64 * 1024 * 1024

_KEEP_ALIVE_S = 300.0
_BACKLOG = 4096
_SET_PARENT_DEATH_SIGNAL = 1
_STREAM_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}


@dataclass(slots=True)
class Tally:
    """What became of the requests. `requests` = `ok` + `errors` + `disconnected` + those still open."""

    requests: int = 0
    ok: int = 0
    errors: int = 0
    disconnected: int = 0
    tokens_out: int = 0

    @property
    def open(self) -> int:
        """Requests whose fate is not known yet: being read, in line, or being answered."""
        return self.requests - self.ok - self.errors - self.disconnected


class Simulator:
    """The endpoint. Requests are numbered from 1 in the order in which they come; the number keys all randomness."""

    def __init__(self, options: Options, api_key: str | None, alarm: Alarm) -> None:
        self._options = options
        self._api_key = api_key
        self._alarm = alarm
        self._created = int(time.time())
        self._timing = Timing(
            seed=options.seed,
            ttft_ns=options.ttft_ns,
            itl_ns=options.itl_ns,
            prefill_rate=options.prefill_rate,
            jitter=options.jitter,
            slowdown=options.slowdown,
        )
        self._slots = Slots(options.slots)
        self._tally = Tally()
        self._number = 0

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_refusals])
        application.router.add_post(openai_chat.PATH, self._chat)
        application.router.add_get("/v1/models", self._models)
        application.router.add_get("/health", self._health)
        application.router.add_get("/sim/stats", self._stats)
        application.router.add_post("/sim/reset", self._reset)
        return application

    async def _health(self, _request: web.Request) -> web.Response:
        return _json(b'{"status":"ok"}')

    async def _models(self, request: web.Request) -> web.Response:
        self._authorise(request)
        return _json(openai_chat.models(self._options.model, self._created))

    async def _stats(self, _request: web.Request) -> web.Response:
        tally, slots = self._tally, self._slots
        figures = {
            "requests": tally.requests,
            "ok": tally.ok,
            "errors": tally.errors,
            "disconnected": tally.disconnected,
            "open": tally.open,
            "active": slots.active,
            "queued": slots.queued,
            "peak_active": slots.peak_active,
            "tokens_out": tally.tokens_out,
            "late_max_ms": self._alarm.late_max_ns / 1e6,
        }
        return _json(json.dumps(figures).encode())

    async def _reset(self, _request: web.Request) -> web.Response:
        """Forgets what is over, and numbers requests from 1 again. Requests still open stay counted."""
        self._tally = Tally(requests=self._tally.open)
        self._slots.forget_peak()
        self._alarm.late_max_ns = 0
        self._number = 0
        return _json(b'{"status":"ok"}')

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        """One request, counted from its headers to its end."""
        self._number += 1
        self._tally.requests += 1
        number = self._number
        try:
            response = await self._answered(request, number)
        except Refused as refused:
            self._tally.errors += 1
            response = _refusal(refused)
            response.headers["x-request-id"] = _request_id(number)
        except (ConnectionError, asyncio.CancelledError):
            self._tally.disconnected += 1
            raise
        else:
            self._tally.ok += 1
        return response

    async def _answered(self, request: web.Request, number: int) -> web.StreamResponse:
        self._authorise(request)
        body = await _body(request)
        started_ns = time.monotonic_ns()
        ask = openai_chat.read(body)
        if self._options.strict_model and ask.model != self._options.model:
            raise openai_chat.unknown_model(ask.model)
        if await self._slots.take():
            started_ns = time.monotonic_ns()
        try:
            reply = openai_chat.Reply(ask, number, int(time.time()))
            answer = self._stream if ask.stream else self._plain
            return await answer(request, ask, reply, number, started_ns)
        finally:
            self._slots.free()

    async def _stream(
        self, request: web.Request, ask: Ask, reply: openai_chat.Reply, number: int, started_ns: int
    ) -> web.StreamResponse:
        schedule = self._timing.schedule(number)
        count, finish_reason = self._length(ask, schedule)
        response = web.StreamResponse(headers={**_STREAM_HEADERS, "x-request-id": _request_id(number)})
        await response.prepare(request)
        opened = False
        async with aclosing(self._tokens(ask, schedule, count, started_ns)) as tokens:
            async for piece in tokens:
                if not opened:
                    await response.write(reply.opening())
                    opened = True
                await response.write(reply.token(piece))
                self._tally.tokens_out += 1
        for event in reply.closing(finish_reason, count):
            await response.write(event)
        await response.write_eof()
        return response

    async def _plain(
        self, _request: web.Request, ask: Ask, reply: openai_chat.Reply, number: int, started_ns: int
    ) -> web.StreamResponse:
        schedule = self._timing.schedule(number)
        count, finish_reason = self._length(ask, schedule)
        text = [piece async for piece in self._tokens(ask, schedule, count, started_ns)]
        self._tally.tokens_out += count
        response = _json(reply.plain("".join(text), finish_reason, count))
        response.headers["x-request-id"] = _request_id(number)
        return response

    def _length(self, ask: Ask, schedule: Schedule) -> tuple[int, str]:
        """Tokens of the answer, and why it ends."""
        limit = self._options.tokens if ask.max_tokens is None else ask.max_tokens
        count = schedule.answer_tokens(limit, 0.0 if ask.to_the_limit else self._options.early_stop)
        return count, "length" if count == ask.max_tokens else "stop"

    async def _tokens(self, ask: Ask, schedule: Schedule, count: int, started_ns: int) -> AsyncGenerator[str, None]:
        """The pieces of the answer, each when it is due."""
        due_ns = started_ns + schedule.ttft_ns(ask.prompt_tokens, self._slots.active)
        for piece in itertools.islice(pieces(self._options.seed, schedule.request), count):
            await self._alarm.until(due_ns)
            yield piece
            due_ns += schedule.itl_ns(self._slots.active)

    def _authorise(self, request: web.Request) -> None:
        if self._api_key is None:
            return
        given = request.headers.get("Authorization", "")
        expected = f"Bearer {self._api_key}"
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode()):
            raise openai_chat.bad_key()


def _request_id(number: int) -> str:
    return f"req-sim-{number}"


async def _body(request: web.Request) -> bytes:
    """The body, whole. Raises Refused where it is too long or was not sent as announced."""
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise openai_chat.too_large(MAX_BODY_BYTES)
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise openai_chat.too_large(MAX_BODY_BYTES) from None
    except web.RequestPayloadError:
        raise Refused(400, "We could not read the body of your request.") from None


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def _refusal(refused: Refused) -> web.Response:
    return _json(openai_chat.error(refused), refused.status)


@web.middleware
async def _refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Errors outside a chat request (unknown route, wrong method, wrong key) in the API's shape."""
    try:
        return await handler(request)
    except Refused as refused:
        return _refusal(refused)
    except web.HTTPNotFound:
        return _refusal(openai_chat.unknown_path(request.method, request.path))
    except web.HTTPMethodNotAllowed:
        return _refusal(Refused(405, f"Not allowed to {request.method} on {request.path[:200]}"))


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; "
            "choose another --host or --port (--port 0 takes a free one)"
        ) from None
    # Inherited by every connection: with Nagle's algorithm a token would wait for the client's ACK of the one before.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _die_with_parent() -> None:
    """Has the kernel kill this process when its parent ends, however it ends."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it ended in between: the signal will not come any more
        raise SystemExit(0)


def _api_key(options: Options) -> str | None:
    if options.api_key_env is None:
        return None
    key = os.environ.get(options.api_key_env)
    if not key:
        raise UserError(f"--api-key-env: the environment variable {options.api_key_env} is not set; export it first")
    return key


async def _run(options: Options) -> None:
    """Serves until SIGTERM or SIGINT. Open answers are cut then: there is nothing to save."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    api_key = _api_key(options)
    listener = _listener(options.host, options.port)
    simulator = Simulator(options, api_key, Alarm(loop))
    runner = web.AppRunner(
        simulator.application(), access_log=None, handler_cancellation=True, keepalive_timeout=_KEEP_ALIVE_S
    )
    await runner.setup()
    await web.SockSite(runner, listener).start()
    gc.freeze()  # what lives as long as the process need not be looked at again: shorter pauses
    host = f"[{options.host}]" if ":" in options.host else options.host
    try:
        os.write(1, f"latbench sim: http://{host}:{listener.getsockname()[1]}/v1\n".encode())
    except BrokenPipeError:  # whoever started us is gone before it knew us
        return
    await stop.wait()


def serve(**values: Any) -> None:  # noqa: ANN401  click hands over what PARAMETERS declares
    """Runs the endpoint with the options of the command line."""
    options = Options(**values)
    if options.with_parent:
        _die_with_parent()
    try:
        uvloop.run(_run(options))
    except UserError as error:
        click.echo(f"latbench sim: {error}", err=True)
        sys.exit(error.exit_code)


main = click.Command("latbench.sim.server", params=list(PARAMETERS), callback=serve, help=HELP)

if __name__ == "__main__":
    main()

"""The simulated endpoint: its routes, and one request from its headers to its end, whatever the API.

A request waits in line for a slot; the headers leave when a slot takes it, the opening (a role chunk, say) right before
the first token (as vLLM does), every event when it is due. Due times are absolute and counted from the moment the
request was there whole (or the slot came free), so that no delay of ours adds up. A client that goes away frees its
slot at once. What is refused by a limit or a fault's status never gets as far as the line.
"""

import asyncio
import functools
import hmac
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from aiohttp import web

from latbench.sim import delivery, faults, profile, schema, trials
from latbench.sim.alarm import Alarm
from latbench.sim.cache import PromptCache
from latbench.sim.dialects import Ask, Dialect, End, Parts, Refused, Start, openai_api
from latbench.sim.dialects.registry import DIALECTS
from latbench.sim.faults import Fate, Fault
from latbench.sim.limits import Limits
from latbench.sim.options import Options, for_request
from latbench.sim.script import Script, script
from latbench.sim.slots import Slots
from latbench.sim.tally import Tally
from latbench.sim.timing import Schedule, Timing

MAX_BODY_BYTES = 64 * 1024 * 1024

_OK = b'{"status":"ok"}'


@dataclass(slots=True)
class Job:
    """One request on its way. It is `admitted` once its key is found to be right."""

    request: web.Request
    dialect: Dialect
    number: int
    key: str = ""
    admitted: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """What a job asks for, and what it will get. `told` is the answer to a needle trial, where it is one."""

    ask: Ask
    options: Options
    script: Script
    schedule: Schedule
    fate: Fate | None
    told: trials.Told | None


class _Struck(Exception):
    """A fault befalls an answer, of which `response` has been begun, or null; `left` is what is not sent of it."""

    def __init__(self, fault: Fault, response: web.StreamResponse | None, left: bytes) -> None:
        super().__init__(fault)
        self.fault = fault
        self.response = response
        self.left = left


class Simulator:
    """The endpoint. Requests are numbered from 1 in the order in which they come; the number keys all randomness."""

    def __init__(
        self, options: Options, api_key: str | None, alarm: Alarm, answers: trials.AnswerBook | None = None
    ) -> None:
        self._options = options
        self._answers = answers
        self._api_key = api_key
        self._alarm = alarm
        self._created = int(time.time())
        self._slots = Slots(options.slots)
        self._limits = Limits(options)
        self._cache = PromptCache(options.cache_ttl_ns)
        start_s = time.time() if options.clock is None else profile.moment(options.clock)
        self._clock = profile.Clock(start_s, time.monotonic_ns(), options.clock_rate)
        self._profile = profile.Profile(profile.factors(options.profile), self._clock)
        self._tally = Tally()
        self._number = 0

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_refusals])
        for dialect in DIALECTS:
            for path in dialect.paths:
                application.router.add_post(path, functools.partial(self._handle, dialect))
            for path, page in dialect.pages(self._options.model, self._created).items():
                application.router.add_get(path, functools.partial(self._page, dialect, page))
        application.router.add_get("/health", self._health)
        application.router.add_get("/sim/stats", self._stats)
        application.router.add_post("/sim/reset", self._reset)
        application.router.add_get("/sim/clock", self._show_clock)
        application.router.add_post("/sim/clock", self._set_clock)
        return application

    # --- pages ----------------------------------------------------------------------------------------------------

    async def _health(self, _request: web.Request) -> web.Response:
        return _json(_OK)

    async def _page(self, dialect: Dialect, page: bytes, request: web.Request) -> web.Response:
        try:
            self._authorise(dialect, dialect.key(_parts(request, b"")))
        except Refused as refused:
            return _refusal(dialect, refused, "")
        return _json(page)

    async def _stats(self, _request: web.Request) -> web.Response:
        figures = self._tally.figures() | {
            "active": self._slots.active,
            "queued": self._slots.queued,
            "peak_active": self._slots.peak_active,
            "late_max_ms": self._alarm.late_max_ns / 1e6,
        }
        return _json(json.dumps(figures).encode())

    async def _reset(self, _request: web.Request) -> web.Response:
        """Forgets what is over, and numbers requests from 1 again. Requests still open stay counted."""
        self._tally = Tally(requests=self._tally.open)
        self._slots.forget_peak()
        self._limits.reset()
        self._cache.clear()
        self._alarm.late_max_ns = 0
        self._number = 0
        return _json(_OK)

    async def _show_clock(self, _request: web.Request) -> web.Response:
        now_ns = time.monotonic_ns()
        figures = {
            "now": profile.shown(self._clock.now_s(now_ns)),
            "rate": self._clock.rate,
            "factor": self._profile.factor(now_ns),
        }
        return _json(json.dumps(figures).encode())

    async def _set_clock(self, request: web.Request) -> web.Response:
        """Another time or rate. 400 says what is wrong with what was sent."""
        try:
            now_s, rate = profile.setting(await request.read())
        except ValueError as error:
            return _json(json.dumps({"error": str(error)}).encode(), 400)
        self._clock.set(time.monotonic_ns(), now_s, rate)
        return await self._show_clock(request)

    # --- one request ----------------------------------------------------------------------------------------------

    async def _handle(self, dialect: Dialect, request: web.Request) -> web.StreamResponse:
        """One request, counted from its headers to its end."""
        self._number += 1
        self._tally.requests += 1
        job = Job(request, dialect, self._number)
        try:
            response = await self._answered(job)
        except Refused as refused:
            self._tally.errors += 1
            response = _refusal(dialect, refused, _request_id(job.number))
            response.headers.update(self._headers(job))
        except _Struck as struck:
            return await self._strike(job, struck)
        except (ConnectionError, asyncio.CancelledError):
            self._tally.disconnected += 1
            raise
        except Exception:
            self._tally.errors += 1  # a bug of ours: the server answers 500, and says so on standard error
            raise
        else:
            self._tally.ok += 1
        return response

    async def _answered(self, job: Job) -> web.StreamResponse:
        """Raises Refused, and _Struck for a fault."""
        work, started_ns = await self._read(job)
        quota = self._limits.of(job.key)
        hit = quota.take(_budget(work), time.monotonic())
        if hit is not None:
            self._tally.limited[hit.kind] += 1
            raise job.dialect.limited(hit)
        try:
            if work.fate is not None and work.fate.fault.status is not None:
                self._tally.faults[work.fate.fault] += 1
                raise job.dialect.failure(work.fate.fault.status)
            if await self._slots.take():
                started_ns = time.monotonic_ns()
            try:
                return await self._answer(job, work, started_ns)
            finally:
                self._slots.free()
        finally:
            quota.done()

    async def _read(self, job: Job) -> tuple[Work, int]:
        """What the request asks for, and when it was there whole. Raises Refused."""
        parts = _parts(job.request, b"")
        key = job.dialect.key(parts)
        self._authorise(job.dialect, key)
        job.key, job.admitted = key, True
        body = await _body(job)
        whole_ns = time.monotonic_ns()
        ask = job.dialect.read(replace(parts, body=body))
        if self._options.strict_model and ask.model != self._options.model:
            raise job.dialect.unknown_model(ask.model)
        try:
            options = for_request(self._options, parts.headers)
            fate = faults.drawn(options, job.number)
            schedule = _timing(options).schedule(job.number)
            told = self._told(ask, options)
            if told is not None:
                ask = replace(ask, prompt_tokens=told.counted_tokens)
            answer = script(options, ask, schedule, None if told is None else told.text)
            return Work(ask, options, answer, schedule, fate, told), whole_ns
        except (ValueError, schema.Unsupported) as error:
            raise Refused(400, str(error)) from None

    def _told(self, ask: Ask, options: Options) -> trials.Told | None:
        """The answer to a needle trial; null for any other request. Raises ValueError where the answers are spoilt."""
        known = None if self._answers is None else self._answers.find(ask.prompt)
        return None if known is None else trials.answer(known, ask.prompt, _reader(options))

    async def _answer(self, job: Job, work: Work, started_ns: int) -> web.StreamResponse:
        ask = work.ask
        cached = written = 0
        if ask.cacheable:
            cached, written = self._cache.look(f"{job.key}\0{ask.model}", ask.prompt, started_ns)
        if work.told is not None:
            cached = max(cached, work.told.cached_tokens)
            written = min(written, ask.prompt_tokens - cached)
        self._tally.prompt_tokens += ask.prompt_tokens
        self._tally.cached_tokens += cached
        lean = replace(ask, prompt=b"")  # it may be long, and the answer may take long
        start = Start(lean, job.number, int(time.time()), cached, written)
        send = self._stream if ask.stream else self._plain
        response = await send(job, work, start, started_ns)
        self._tally.tool_calls += len(work.script.calls)
        self._tally.needle.update(() if work.told is None else (work.told.worth,))
        return response

    async def _stream(self, job: Job, work: Work, start: Start, started_ns: int) -> web.StreamResponse:
        reply = job.dialect.reply(start)
        headers = {"Content-Type": reply.content_type, "Cache-Control": "no-cache"}
        response = web.StreamResponse(headers=headers | self._headers(job))
        write = delivery.writer(response, self._alarm, work.options.slow_bytes)
        due_ns = started_ns + self._ttft_ns(work, start)
        await response.prepare(job.request)
        if greeting := reply.greeting():
            await write(greeting)
        strike_at = None if work.fate is None else work.fate.after(work.script.tokens)
        first_ns = 0
        for sent, events in enumerate(work.script.events(reply)):
            await self._alarm.until(due_ns)
            if sent == strike_at:
                break
            first_ns = first_ns or time.monotonic_ns() - started_ns
            for event in events:
                await write(event)
            self._tally.tokens_out += 1
            self._tally.reasoning_tokens += sent < work.script.reasoning_tokens
            due_ns += self._at_this_hour(work.schedule.itl_ns(self._slots.active))
        if work.fate is not None:
            error = reply.error_event(job.dialect.failure(529))
            left = {Fault.GARBAGE: reply.garbage(), Fault.ERROR_EVENT: error}.get(work.fate.fault, b"")
            raise _Struck(work.fate.fault, response, left)
        for event in reply.closing(_end(work.script, first_ns, started_ns)):
            await write(event)
        await response.write_eof()
        return response

    async def _plain(self, job: Job, work: Work, start: Start, started_ns: int) -> web.StreamResponse:
        due_ns = first_due_ns = started_ns + self._ttft_ns(work, start)
        for _ in range(work.script.tokens):
            await self._alarm.until(due_ns)
            due_ns += self._at_this_hour(work.schedule.itl_ns(self._slots.active))
        answer = work.script.answer(_end(work.script, first_due_ns - started_ns, started_ns))
        body = job.dialect.reply(start).plain(answer)
        if work.fate is not None:
            raise _Struck(work.fate.fault, None, body)
        self._tally.tokens_out += work.script.tokens
        self._tally.reasoning_tokens += work.script.reasoning_tokens
        response = web.StreamResponse(headers={"Content-Type": "application/json"} | self._headers(job))
        response.content_length = len(body)
        await response.prepare(job.request)
        await delivery.writer(response, self._alarm, work.options.slow_bytes)(body)
        await response.write_eof()
        return response

    async def _strike(self, job: Job, struck: _Struck) -> web.StreamResponse:
        """Breaks an answer off. Its slot is free already; it counts as an error."""
        self._tally.errors += 1
        self._tally.faults[struck.fault] += 1
        request, response, left = job.request, struck.response, struck.left
        if struck.fault is Fault.RESET:
            delivery.reset(request)
        elif struck.fault is Fault.STALL:
            await asyncio.get_running_loop().create_future()  # until the client leaves, which cancels it
        elif response is not None and struck.fault is not Fault.CUT:  # the stream ends in order, after what is left
            await response.write(left)
            await response.write_eof()
        elif response is None and struck.fault is Fault.ERROR_EVENT:
            response = _json(job.dialect.error(job.dialect.failure(529), _request_id(job.number)))
        elif response is None:
            half = left[: len(left) // 2]
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            response.content_length = len(left if struck.fault is Fault.CUT else half)
            await response.prepare(request)
            await response.write(half)
        if struck.fault is Fault.CUT:
            delivery.cut(request)
        return response or web.Response()

    def _ttft_ns(self, work: Work, start: Start) -> int:
        unread = start.ask.prompt_tokens - start.cached_tokens
        if work.told is not None:
            unread = work.told.computed_tokens
        return self._at_this_hour(work.schedule.ttft_ns(unread, self._slots.active))

    def _at_this_hour(self, duration_ns: int) -> int:
        if self._options.profile is None:
            return duration_ns
        return round(duration_ns * self._profile.factor(time.monotonic_ns()))

    def _headers(self, job: Job) -> dict[str, str]:
        """What every response says: its id and, to whom was let in, what the limits leave."""
        headers = {job.dialect.id_header: _request_id(job.number)}
        if job.admitted:
            rooms = self._limits.of(job.key).rooms(time.monotonic())
            headers |= job.dialect.limit_headers(rooms, time.time()) if rooms else {}
        return headers

    def _authorise(self, dialect: Dialect, given: str) -> None:
        if self._api_key is None:
            return
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._api_key.encode()):
            raise dialect.bad_key()


def _parts(request: web.Request, body: bytes) -> Parts:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Parts(body, dict(request.match_info), dict(request.query), headers)


def _timing(options: Options) -> Timing:
    return Timing(
        seed=options.seed,
        ttft_ns=options.ttft_ns,
        itl_ns=options.itl_ns,
        prefill_rate=options.prefill_rate,
        jitter=options.jitter,
        slowdown=options.slowdown,
    )


def _reader(options: Options) -> trials.Reader:
    return trials.Reader(
        model=options.needle_model,
        accuracy=options.needle_accuracy,
        blind=options.needle_blind,
        keep_tokens=options.needle_keep,
        silent=options.needle_silent,
        seed=options.seed,
    )


def _budget(work: Work) -> int:
    """The tokens that a request may come to, before it is answered: what a limit of tokens takes."""
    ask = work.ask
    return ask.prompt_tokens + (work.options.tokens if ask.max_tokens is None else ask.max_tokens)


def _end(script: Script, first_ns: int, started_ns: int) -> End:
    total_ns = time.monotonic_ns() - started_ns
    return End(script.finish, script.tokens, script.reasoning_tokens, first_ns, total_ns)


def _request_id(number: int) -> str:
    return f"req-sim-{number}"


async def _body(job: Job) -> bytes:
    """The body, whole. Raises Refused where it is too long or was not sent as announced."""
    if (job.request.content_length or 0) > MAX_BODY_BYTES:
        raise job.dialect.too_large(MAX_BODY_BYTES)
    try:
        return await job.request.read()
    except web.HTTPRequestEntityTooLarge:
        raise job.dialect.too_large(MAX_BODY_BYTES) from None
    except web.RequestPayloadError:
        raise Refused(400, "We could not read the body of your request.") from None


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def _refusal(dialect: Dialect, refused: Refused, request_id: str) -> web.Response:
    response = _json(dialect.error(refused, request_id), refused.status)
    response.headers.update(refused.headers)
    return response


@web.middleware
async def _refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Unknown routes and wrong methods in the shape of OpenAI."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        refused = openai_api.unknown_path(request.method, request.path)
    except web.HTTPMethodNotAllowed:
        refused = Refused(405, f"Not allowed to {request.method} on {request.path[:200]}")
    return _json(openai_api.error(refused), refused.status)

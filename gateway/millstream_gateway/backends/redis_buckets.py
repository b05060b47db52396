"""Buckets and quotas in a Redis, for several gateways that count together.

One Lua script does it, and not the strategies of the library `limits`: those ask for one limit a
round trip, so a request under four limits would take four, pay the first although the last refuses
it, and know no debt. The script asks all limits of a request, and of every other request that came
in the same turn of the event loop for the same tenant, and pays all of them or none; its time is
Redis's own. So it is one round trip a request, or less.

What lasts (queries, WebSockets) is counted by lease: each gateway says how many it has itself, and
that holds for `LEASE_SECONDS` unless it says so again. So the places of a gateway that was killed
come back by themselves, and a message that was lost leaves nothing behind.

What is paid afterwards (samples) goes along with what is sent next and before it, a few milliseconds
later at most. Keys carry the tenant as their hash tag, so a script finds all of its keys in one slot; limits
of callers and addresses count for each tenant apart here, which they do not in memory.

When Redis does not answer in time, the buckets of this process answer instead, at once, and a task
knocks until it is back. The numbers of that time are not added later.

Threads  Event loop only.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import struct
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import structlog
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, RedisError

from millstream_gateway.settings import RedisSettings

log = structlog.get_logger(__name__)

# ARGV[1] is packed, little-endian: how many requests (u32); for each how many keys (u32), then for
# each key what it pays, what must be there, what it holds (doubles), and its mode (u8): 0 asks and
# pays, 1 pays whatever is there, 2 is a counter that asks and pays, 3 is a counter that pays, 4 takes
# a place and 5 says how many this gateway has: its first number, the second a number that grows with
# each word of this gateway, the third how many all may have. Such a key holds a text of
# `gateway=count:number:until;`, and ARGV[2] is who asks.
# Times are microseconds since 2023-11-14, which leaves doubles a hundredth of one to be exact to. A
# counter's third number is its most, its second when it ends.
# The answer is packed as well, three numbers for each request: the key that refused or is nearest to
# it (i32), counted from 1 and negative when it refused, what is left there, and how long to wait.
_TEMPLATE: Final = """
local t = redis.call('TIME')
local now = (tonumber(t[1]) - 1700000000) * 1000000 + tonumber(t[2])
local data, me, out, first = ARGV[1], ARGV[2], {}, 0
local requests, a = struct.unpack('<I4', data)
for _ = 1, requests do
  local n
  n, a = struct.unpack('<I4', data, a)
  local stored, pays, needs, modes = {}, {}, {}, {}
  if n > 0 then stored = redis.call('MGET', unpack(KEYS, first + 1, first + n)) end
  local after, at, least, left, wait = {}, 0, 2, 0, 0
  for i = 1, n do
    local pay, need, most, mode = struct.unpack('<dddB', data, a + (i - 1) * 25)
    pays[i], needs[i], modes[i] = pay, need, mode
    local is = mode < 4 and tonumber(stored[i] or 0)
    if mode >= 4 then
      local others, said, kept, mine = 0, -1, '', ''
      for id, count, number, till in string.gmatch(stored[i] or '', '(%w+)=(%d+):(%d+):(%d+);') do
        local entry = id .. '=' .. count .. ':' .. number .. ':' .. till .. ';'
        if id == me then
          said, mine = tonumber(number), entry
        elseif tonumber(till) > now then
          others, kept = others + tonumber(count), kept .. entry
        end
      end
      if mode == 4 and others + pay > most then
        at, left, wait = -i, 0, 1000000
        break
      end
      if need > said then
        mine = string.format('%s=%.0f:%.0f:%.0f;', me, pay, need, now + LEASE)
      end
      after[i] = kept .. mine
    elseif mode < 2 then
      if is < now then is = now end
      after[i] = is + pay
      if mode == 0 then
        local room = most - (is - now)
        local short = need - room
        if (need > 0 and short > need * 0.001) or (need == 0 and room <= 0) then
          at, left, wait = -i, 0, math.max(1, math.ceil(short))
          break
        end
        local share = (room - pay) / most
        if share < least then at, least, left = i, share, room - pay end
      end
    else
      after[i] = is + pay
      if mode == 2 and (after[i] > most or is >= most) then
        at, left, wait = -i, 0, math.max(1, need - now)
        break
      end
    end
  end
  if at >= 0 then
    for i = 1, n do
      local key, mode = KEYS[first + i], modes[i]
      if mode >= 4 then
        redis.call('SET', key, after[i], 'PX', math.ceil(LEASE / 1000))
      elseif pays[i] > 0 then
        local till = after[i]
        if mode >= 2 then till = needs[i] + 86400000000 end
        redis.call('SET', key, string.format(mode < 2 and '%.3f' or '%.0f', after[i]),
                   'PX', math.max(1000, math.ceil((till - now) / 1000) + 1000))
      end
    end
  end
  out[#out + 1] = struct.pack('<i4dd', at, left, wait)
  first, a = first + n, a + n * 25
end
return table.concat(out)
"""
# How long what a gateway said of its queries and WebSockets holds.
LEASE_SECONDS: Final = 15.0
_SCRIPT: Final = _TEMPLATE.replace("LEASE", f"{LEASE_SECONDS * 1e6:.0f}")
_SHA: Final = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()
EPOCH_SECONDS: Final = 1_700_000_000
_COUNT: Final = struct.Struct("<I")
_STEP: Final = struct.Struct("<dddB")
_ANSWER: Final = struct.Struct("<idd")
ASK_AND_PAY: Final = 0
PAY: Final = 1
COUNTER: Final = 2
COUNTER_PAY: Final = 3
LEASE: Final = 4
LEASE_SAY: Final = 5
_PREFIX: Final = "millstream:"
# Requests of one tenant in one script; it runs for some microseconds each, and nobody else's does.
_BATCH_MAX: Final = 128
# Keys of one request: Lua puts no more than some 8,000 numbers on its stack.
_STEPS_MAX: Final = 1000
_IN_FLIGHT_MAX: Final = 16
_WAITING_MAX: Final = 10_000
_PENDING_MAX: Final = 10_000
_PENDING_SECONDS: Final = 0.005
_RETRY_SECONDS: Final = 0.5


class SharedGoneError(Exception):
    """Redis did not answer; ask the buckets of this process."""


@dataclass(frozen=True, slots=True)
class Step:
    """One key of one request, as the script takes it; times are seconds."""

    key: str
    pay: float
    need: float
    most: float
    mode: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Which step refused (wait > 0) or is nearest to it, from 0; -1 is none."""

    index: int
    room: float
    wait: float


@dataclass(slots=True)
class _Asked:
    steps: Sequence[Step]
    future: asyncio.Future[Answer] | None


class RedisBuckets:
    """Asks and pays in Redis."""

    def __init__(self, settings: RedisSettings) -> None:
        assert settings.url is not None  # noqa: S101
        timeout = settings.timeout / 1000
        self._timeout = timeout
        # Who says how many it has. Another one for each process.
        self._name = secrets.token_hex(8)
        self._redis = Redis.from_url(
            settings.url.get_secret_value(),
            # Time is kept here, once for a whole round trip: the client's own way makes a task of
            # each half.
            socket_timeout=None,
            socket_connect_timeout=max(timeout, 1.0),
            retry_on_timeout=False,
        )
        self._idle: list[AbstractConnection] = []
        self._asked: defaultdict[str, list[_Asked]] = defaultdict(list)
        self._paying: dict[str, dict[str, Step]] = {}
        self._waiting = 0
        self._flush_soon = False
        self._flush_later: asyncio.TimerHandle | None = None
        self._flushes: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(_IN_FLIGHT_MAX)
        self._knocking: asyncio.Task[None] | None = None
        self._closed = False
        #: Whether Redis answered when it was asked last.
        self.up = False
        #: Requests that the buckets of this process had to answer.
        self.fallbacks = 0

    async def start(self) -> None:
        """Connect when Redis is there; otherwise go on trying."""
        await self._knock_once()
        if not self.up:
            log.warning("Redis does not answer; limits count in this process only until it does")
            self._knock()

    async def stop(self) -> None:
        self._closed = True
        if self._knocking is not None:
            self._knocking.cancel()
        if self._paying and self.up:
            self._flush()
        for task in tuple(self._flushes):
            with contextlib.suppress(Exception):
                await task
        for connection in self._idle:
            await connection.disconnect()
        self._idle.clear()
        await self._redis.aclose()

    async def ask(self, tag: str, steps: Sequence[Step]) -> Answer:
        """Ask and pay all steps, or none. `SharedGoneError` when Redis does not answer."""
        if not self.up or self._closed or self._waiting >= _WAITING_MAX:
            self.fallbacks += 1
            raise SharedGoneError
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[tag].append(_Asked(steps, future))
        self._schedule(now=True)
        self._waiting += 1
        try:
            return await future
        except SharedGoneError:
            self.fallbacks += 1
            raise
        finally:
            self._waiting -= 1

    def pay(self, tag: str, steps: Sequence[Step]) -> None:
        """Pay soon, whatever is there; nobody waits for it."""
        if not self.up or self._closed:
            return
        paying = self._paying.setdefault(tag, {})
        for step in steps:
            before = paying.get(step.key)
            if before is None and len(paying) >= _PENDING_MAX:
                continue
            paid = step.pay
            if before is not None and step.mode != LEASE_SAY:
                paid += before.pay
            paying[step.key] = Step(step.key, paid, step.need, step.most, step.mode)
        self._schedule(now=False)

    async def counts(self, tag: str, keys: Sequence[str]) -> list[int]:
        """What counters hold; for people, so by the client's usual way."""
        try:
            async with asyncio.timeout(self._timeout + 1.0):
                found = await self._redis.mget([f"{_PREFIX}{{{tag}}}:{key}" for key in keys])
        except (RedisError, OSError, TimeoutError):
            raise SharedGoneError from None
        return [int(count or 0) for count in found]

    def _schedule(self, *, now: bool) -> None:
        loop = asyncio.get_running_loop()
        if now and not self._flush_soon:
            self._flush_soon = True
            loop.call_soon(self._flush)
        elif not now and self._flush_later is None:
            self._flush_later = loop.call_later(_PENDING_SECONDS, self._flush)

    def _flush(self) -> None:
        self._flush_soon = False
        if self._flush_later is not None:
            self._flush_later.cancel()
            self._flush_later = None
        asked, self._asked = self._asked, defaultdict(list)
        paying, self._paying = self._paying, {}
        for tag, steps in paying.items():
            listed = tuple(steps.values())
            # What was brought is paid before anybody asks for more.
            asked[tag][:0] = [
                _Asked(listed[first : first + _STEPS_MAX], None)
                for first in range(0, len(listed), _STEPS_MAX)
            ]
        for tag, requests in asked.items():
            for first in range(0, len(requests), _BATCH_MAX):
                task = asyncio.ensure_future(self._send(tag, requests[first : first + _BATCH_MAX]))
                self._flushes.add(task)
                task.add_done_callback(self._flushes.discard)

    async def _send(self, tag: str, requests: list[_Asked]) -> None:
        keys: list[str] = []
        packed = [_COUNT.pack(len(requests))]
        prefix = f"{_PREFIX}{{{tag}}}:"
        for request in requests:
            packed.append(_COUNT.pack(len(request.steps)))
            for step in request.steps:
                keys.append(prefix + step.key)
                scale = 1 if step.mode >= COUNTER else 1e6
                need = step.need * scale
                if step.mode in (COUNTER, COUNTER_PAY):
                    need = (step.need - EPOCH_SECONDS) * 1e6
                packed.append(_STEP.pack(step.pay * scale, need, step.most * scale, step.mode))
        try:
            async with self._places:
                if not self.up:
                    # Those before it have waited for nothing; it need not.
                    raise ConnectionError
                answer = await self._evaluate(keys, b"".join(packed))
        except (RedisError, OSError, TimeoutError) as error:
            self._gone(error)
            for request in requests:
                if request.future is not None and not request.future.done():
                    request.future.set_exception(SharedGoneError())
            return
        for request, (at, left, wait) in zip(requests, _ANSWER.iter_unpack(answer), strict=True):
            if request.future is not None and not request.future.done():
                request.future.set_result(Answer(abs(at) - 1, left / 1e6, wait / 1e6))

    async def _evaluate(self, keys: list[str], packed: bytes) -> bytes:
        """One round trip on a connection of its own.

        The client's own way from a command to a connection and back costs more than all the rest.
        """
        connection = self._idle.pop() if self._idle else None
        try:
            async with asyncio.timeout(self._timeout if connection else self._timeout + 1.0):
                if connection is None:
                    pool = self._redis.connection_pool
                    connection = cast(
                        AbstractConnection,
                        pool.make_connection(),  # type: ignore[no-untyped-call]
                    )
                    await connection.connect()  # type: ignore[no-untyped-call]
                command = connection.pack_command(
                    "EVALSHA", _SHA, len(keys), *keys, packed, self._name
                )
                await connection.send_packed_command(command, check_health=False)
                try:
                    answer = await connection.read_response()
                except NoScriptError:
                    # Redis was started anew, and knows nothing any more.
                    await connection.send_command(
                        "EVAL", _SCRIPT, len(keys), *keys, packed, self._name
                    )
                    answer = await connection.read_response()
        except BaseException:
            # What is left unread on it would be taken for the next one's answer.
            if connection is not None:
                with contextlib.suppress(RedisError, OSError, TimeoutError):
                    await connection.disconnect(nowait=True)
            raise
        self._idle.append(connection)
        return cast(bytes, answer)

    def _gone(self, error: BaseException) -> None:
        if self.up:
            self.up = False
            # Its text could hold the address, with the password in it.
            log.error(
                "Redis does not answer; limits count in this process only until it does",
                error=type(error).__name__,
            )
        self._knock()

    def _knock(self) -> None:
        if self._closed or (self._knocking is not None and not self._knocking.done()):
            return
        self._knocking = asyncio.ensure_future(self._knock_until_open())

    async def _knock_until_open(self) -> None:
        while not self.up and not self._closed:
            await asyncio.sleep(_RETRY_SECONDS)
            await self._knock_once()

    async def _knock_once(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                await connection.disconnect(nowait=True)
        try:
            await self._evaluate([], _COUNT.pack(0))
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("Redis does not answer", error=type(error).__name__)
            return
        if not self.up:
            self.up = True
            log.info("limits count in Redis")

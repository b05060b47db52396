"""Small writes past the framework: the protocol hands one over whole, and gets the answer as bytes.

What an ASGI server and application do for one request costs several times what a write of a few
samples costs. So those that are usual in every way (`ShortWay.meet` says which) are admitted here, by
the same authenticator, decision and limits as at the route's guard, and travel with the same group
of writes. Whatever is unusual, and whatever would be refused, is left to the usual way before
anything was counted or paid: there is one place that refuses, and it is not here.

Threads  Event loop only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final

from starlette.responses import Response

from millstream_gateway.errors import error_response
from millstream_gateway.guard import Guard, KnownCaller
from millstream_gateway.logs import current_correlation_id
from millstream_gateway.middleware import SECURITY_HEADERS, RequestContext, correlation_id_for
from millstream_gateway.routers.ingest import JsonMetrics
from millstream_gateway.schemas.limits import Unit
from millstream_gateway.schemas.push import PushOutcome, WriteBody
from millstream_gateway.services.authentication import Credentials
from millstream_gateway.services.container import Services
from millstream_gateway.services.ingest import SHARED_BYTES_MAX
from millstream_gateway.services.limits import Admission

#: What a request may bring: any other header may ask for something that only the usual way does.
_PASSED_OVER: Final = frozenset(
    {b"host", b"user-agent", b"accept", b"accept-encoding", b"connection", b"content-length"}
)
_MEDIA: Final = frozenset({b"application/json", b"application/json; charset=utf-8"})
_HEAD: Final = b"HTTP/1.1 200 OK\r\n"
_FIXED: Final = b"".join(b"%s: %s\r\n" % header for header in SECURITY_HEADERS)

Headers = Sequence[tuple[bytes, bytes]]
#: Takes the answer, from its status line to its end.
Respond = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sends a request, and what its headers say."""

    known: KnownCaller
    media: bytes
    given_id: str


class _Request:
    """One write on its way."""

    __slots__ = (
        "admission",
        "began",
        "correlation_id",
        "respond",
        "server_headers",
        "size",
        "visitor",
    )

    def __init__(
        self,
        visitor: Visitor,
        server_headers: Headers,
        respond: Respond,
        size: int,
        admission: Admission | None,
    ) -> None:
        self.visitor = visitor
        self.correlation_id = correlation_id_for(visitor.given_id)
        self.server_headers = server_headers
        self.respond = respond
        self.size = size
        self.admission = admission
        self.began = time.perf_counter()


class ShortWay:
    """The way of `POST /metrics`; ``path`` is its URL, without a query."""

    def __init__(
        self, services: Services, context: RequestContext, guard: Guard, endpoint: JsonMetrics
    ) -> None:
        self.path = endpoint.path.encode()
        self._context = context
        self._guard = guard
        self._endpoint = endpoint
        self._ingest = services.ingest
        self._bytes_max = min(SHARED_BYTES_MAX, services.settings.limits.json_bytes)

    def meet(self, headers: Headers, client: str) -> Visitor | None:
        """Who sends a request with these headers, when it is usual in every way.

        That is: JSON, not compressed, from a caller who was let in a moment ago.
        """
        authorization: list[bytes] = []
        api_key: list[bytes] = []
        tenants: list[bytes] = []
        media, given_id = b"", ""
        for name, value in headers:
            if name == b"authorization":
                authorization.append(value)
            elif name == b"content-type":
                if media or value not in _MEDIA:
                    return None
                media = value
            elif name == b"x-api-key":
                api_key.append(value)
            elif name == b"x-scope-orgid":
                tenants.append(value)
            elif name == b"x-correlation-id":
                given_id = value.decode("latin-1")
            elif name not in _PASSED_OVER:
                return None
        known = self._guard.known_caller(
            Credentials(tuple(authorization), tuple(api_key)), tenants, client
        )
        return None if known is None else Visitor(known, media, given_id)

    def take(
        self, visitor: Visitor, body: bytes, server_headers: Headers, respond: Respond
    ) -> bool:
        """Take a body over: ``respond`` is called once, later. False leaves it untouched.

        ``server_headers`` are those that the server puts in front of every answer.
        """
        ingest, size = self._ingest, len(body)
        if not 0 < size <= self._bytes_max or not ingest.has_room:
            return False
        if not self._guard.still_knows(visitor.known) or not ingest.budget.try_take(size):
            return False
        caller = visitor.known.caller
        admitted, admission = self._guard.admit_now(caller, size)
        if not admitted:
            ingest.budget.give_back(size)
            return False
        request = _Request(visitor, server_headers, respond, size, admission)
        self._context.requests.in_flight += 1
        future = ingest.begin(caller.tenant, WriteBody("json", body))
        future.add_done_callback(partial(self._finish, request))
        return True

    def _finish(self, request: _Request, future: asyncio.Future[PushOutcome]) -> None:
        self._context.requests.in_flight -= 1
        self._ingest.budget.give_back(request.size)
        token = current_correlation_id.set(request.correlation_id)
        status = 0
        try:
            if future.cancelled():
                # The server ends, and its connections with it.
                return
            status, answer = self._answer(request, future)
            request.respond(answer)
        finally:
            path = self._endpoint.path
            seconds = time.perf_counter() - request.began
            self._context.note(path, "POST", path, status, seconds)
            current_correlation_id.reset(token)

    def _answer(self, request: _Request, future: asyncio.Future[PushOutcome]) -> tuple[int, bytes]:
        error = future.exception()
        if error is not None:
            response = error_response(
                self._endpoint.path,
                error,
                method="POST",
                content_type=request.visitor.media.decode("latin-1"),
                correlation_id=request.correlation_id,
            )
            return response.status_code, _rendered(request, response)
        outcome = future.result()
        self._ingest.count("json", outcome)
        if request.admission is not None:
            request.admission.charge(Unit.SAMPLES, outcome.stored + outcome.rejected)
        if outcome.rejected:
            response = self._endpoint.answer_of(outcome)
            return response.status_code, _rendered(request, response)
        body = b'{"accepted":%d,"rejected":0,"errors":[]}' % outcome.stored
        own = b"content-length: %d\r\ncontent-type: application/json\r\n" % len(body)
        return 200, b"".join((_HEAD, _before(request), own, _after(request), body))


def _rendered(request: _Request, response: Response) -> bytes:
    head = b"HTTP/1.1 %d %s\r\n" % (
        response.status_code,
        HTTPStatus(response.status_code).phrase.encode(),
    )
    own = b"".join(b"%s: %s\r\n" % header for header in response.raw_headers)
    return b"".join((head, _before(request), own, _after(request), bytes(response.body)))


def _before(request: _Request) -> bytes:
    return b"".join([b"%s: %s\r\n" % header for header in request.server_headers])


def _after(request: _Request) -> bytes:
    given = b"x-correlation-id: %s\r\n" % request.correlation_id.encode()
    if request.admission is None:
        return b"%s%s\r\n" % (given, _FIXED)
    limits = b"".join([b"%s: %s\r\n" % header for header in request.admission.headers()])
    return b"%s%s%s\r\n" % (given, _FIXED, limits)

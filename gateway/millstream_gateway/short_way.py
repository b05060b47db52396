"""Small writes past the framework: the protocol hands one over whole, and gets the answer as bytes.

What an ASGI server and application do for one request costs several times what a write of a few
samples costs. So those that are usual in every way (`ShortWay.meet` says which) are admitted here, by
the same authenticator, decision and limits as at the route's guard, and travel with the same group
of writes. Whatever is unusual, and whatever would be refused, is left to the usual way before
anything was counted or paid: there is one place that refuses, and it is not here. A body may come in several
pieces; whoever is slow about it is cut off as with headers.

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
from millstream_gateway.guard import KnownCaller
from millstream_gateway.logs import current_correlation_id
from millstream_gateway.middleware import SECURITY_HEADERS, RequestContext, correlation_id_for
from millstream_gateway.schemas.limits import Unit
from millstream_gateway.schemas.push import PushOutcome, WriteBody
from millstream_gateway.services.authentication import Credentials
from millstream_gateway.services.ingest import IngestService
from millstream_gateway.services.limits import Admission
from millstream_gateway.short_routes import Route

#: What a request may bring beside what its route reads: any other header may ask for something that
#: only the usual way does.
_PASSED_OVER: Final = frozenset(
    {b"host", b"user-agent", b"accept", b"accept-encoding", b"connection"}
)
_READ: Final = frozenset(
    {b"content-type", b"content-encoding", b"x-prometheus-remote-write-version"}
)
_LENGTH_DIGITS: Final = 10
_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode())
    for status in HTTPStatus
}
_FIXED: Final = b"".join(b"%s: %s\r\n" % header for header in SECURITY_HEADERS)

Headers = Sequence[tuple[bytes, bytes]]
#: Takes the answer, from its status line to its end.
Respond = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sends a request, and what its headers say."""

    route: Route
    known: KnownCaller
    form: str
    media: bytes
    given_id: str
    size: int


class _Request:
    """One write on its way."""

    __slots__ = ("admission", "began", "correlation_id", "respond", "server_headers", "visitor")

    def __init__(
        self,
        visitor: Visitor,
        server_headers: Headers,
        respond: Respond,
        admission: Admission | None,
    ) -> None:
        self.visitor = visitor
        self.correlation_id = correlation_id_for(visitor.given_id)
        self.server_headers = server_headers
        self.respond = respond
        self.admission = admission
        self.began = time.perf_counter()


class ShortWay:
    """``paths`` are the URLs that it serves, without a query."""

    def __init__(
        self, ingest: IngestService, context: RequestContext, routes: Sequence[Route]
    ) -> None:
        self._routes = {route.path.encode(): route for route in routes}
        self.paths = frozenset(self._routes)
        self._context = context
        self._ingest = ingest

    def meet(self, url: bytes, headers: Headers, client: str) -> Visitor | None:
        """Who sends a request with this head, when it is usual in every way.

        That is: a body of a length that is said and not large, in a form that its route knows by its
        headers, from a caller who was let in a moment ago.
        """
        route = self._routes[url]
        authorization: list[bytes] = []
        api_key: list[bytes] = []
        tenants: list[bytes] = []
        said: dict[bytes, bytes] = {}
        given_id, size = "", 0
        for name, value in headers:
            if name == b"authorization":
                authorization.append(value)
            elif name == b"content-length":
                size = int(value) if len(value) < _LENGTH_DIGITS and value.isdigit() else 0
            elif name in _READ:
                if name in said:
                    return None
                said[name] = value
            elif name == b"x-api-key":
                api_key.append(value)
            elif name == b"x-scope-orgid":
                tenants.append(value)
            elif name == b"x-correlation-id":
                given_id = value.decode("latin-1")
            elif name not in _PASSED_OVER:
                return None
        form = route.form(said)
        if form is None or not 0 < size <= route.bytes_max or not self._ingest.has_room:
            return None
        credentials = Credentials(tuple(authorization), tuple(api_key))
        known = route.guard.known_caller(credentials, tenants, client)
        if known is None:
            return None
        return Visitor(route, known, form, said.get(b"content-type", b""), given_id, size)

    def hold(self, visitor: Visitor) -> bool:
        """Whether there is room to wait for the rest of the body; whoever waits calls `let_go`."""
        return self._ingest.budget.try_take(visitor.size)

    def let_go(self, visitor: Visitor) -> None:
        self._ingest.budget.give_back(visitor.size)

    def take(
        self, visitor: Visitor, body: bytes, server_headers: Headers, respond: Respond
    ) -> bool:
        """Take a whole body over: ``respond`` is called once, later. False leaves it untouched.

        ``server_headers`` are those that the server puts in front of every answer.
        """
        ingest, route = self._ingest, visitor.route
        write = WriteBody(visitor.form, body)
        if not ingest.has_room or not ingest.fits(write):
            return False
        if not route.guard.still_knows(visitor.known) or not self.hold(visitor):
            return False
        caller = visitor.known.caller
        admitted, admission = route.guard.admit_now(caller, visitor.size)
        if not admitted:
            self.let_go(visitor)
            return False
        request = _Request(visitor, server_headers, respond, admission)
        self._context.requests.in_flight += 1
        future = ingest.begin(caller.tenant, write)
        future.add_done_callback(partial(self._finish, request))
        return True

    def _finish(self, request: _Request, future: asyncio.Future[PushOutcome]) -> None:
        self._context.requests.in_flight -= 1
        self.let_go(request.visitor)
        token = current_correlation_id.set(request.correlation_id)
        status = 0
        try:
            if future.cancelled():
                # The server ends, and its connections with it.
                return
            status, answer = self._answer(request, future)
            request.respond(answer)
        finally:
            path = request.visitor.route.path
            seconds = time.perf_counter() - request.began
            self._context.note(path, "POST", path, status, seconds)
            current_correlation_id.reset(token)

    def _answer(self, request: _Request, future: asyncio.Future[PushOutcome]) -> tuple[int, bytes]:
        visitor = request.visitor
        error = future.exception()
        if error is not None:
            response = visitor.route.refusal(visitor.form, error) or error_response(
                visitor.route.path,
                error,
                method="POST",
                content_type=visitor.media.decode("latin-1"),
                correlation_id=request.correlation_id,
            )
        else:
            outcome = future.result()
            self._ingest.count(visitor.form, outcome)
            if request.admission is not None:
                request.admission.charge(Unit.SAMPLES, outcome.stored + outcome.rejected)
            response = visitor.route.answer(visitor.form, outcome)
        return response.status_code, _rendered(request, response)


def _rendered(request: _Request, response: Response) -> bytes:
    parts = [_STATUS_LINES[response.status_code]]
    parts += [b"%s: %s\r\n" % header for header in request.server_headers]
    parts += [b"%s: %s\r\n" % header for header in response.raw_headers]
    parts += (_after(request), bytes(response.body))
    return b"".join(parts)


def _after(request: _Request) -> bytes:
    given = b"x-correlation-id: %s\r\n" % request.correlation_id.encode()
    if request.admission is None:
        return b"%s%s\r\n" % (given, _FIXED)
    limits = b"".join([b"%s: %s\r\n" % header for header in request.admission.headers()])
    return b"%s%s%s\r\n" % (given, _FIXED, limits)

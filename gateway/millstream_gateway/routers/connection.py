"""Work that is worth doing only while the client waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from starlette.requests import Request

from millstream_gateway.backends.cancel import CancelSignal

T = TypeVar("T")


async def while_connected(request: Request, work: Callable[[CancelSignal], Awaitable[T]]) -> T:
    """Await ``work``; throw its `CancelSignal` when the client disconnects first.

    The request's body must have been read, so that nothing but a disconnect can arrive.
    """
    cancel = CancelSignal()
    working = asyncio.ensure_future(work(cancel))
    watching = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            cancel.cancel()
        return await working
    finally:
        watching.cancel()
        working.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

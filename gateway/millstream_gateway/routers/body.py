"""Reading a request body that may be hostile: too large, too slow, or cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Receive

from millstream.errors import CancelledError


def refuse_too_large(bytes_max: int, limit_name: str) -> HTTPException:
    """413; the connection is closed after it, because the rest of the body is not wanted."""
    return HTTPException(
        413,
        f"the request body is larger than {limit_name} ({bytes_max} bytes)",
        headers={"Connection": "close"},
    )


async def read_body(
    receive: Receive,
    headers: Headers,
    *,
    bytes_max: int,
    limit_name: str,
    timeout_ms: int,
    take: Callable[[int], None] | None = None,
    at_hand: bool = False,
) -> bytes:
    """The whole body, refused as soon as it is known to be over ``bytes_max``.

    ``take`` is told of each chunk before it is kept and may refuse it. ``at_hand`` says that nothing
    is waited for, which saves the timer.
    """
    declared = headers.get("content-length")
    if declared is not None and declared.isdecimal() and int(declared) > bytes_max:
        raise refuse_too_large(bytes_max, limit_name)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(None if at_hand else timeout_ms / 1000):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise CancelledError("the client went away while it sent the body")
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > bytes_max:
                    raise refuse_too_large(bytes_max, limit_name)
                if take is not None:
                    take(len(chunk))
                chunks.append(chunk)
                more = message.get("more_body", False)
    except TimeoutError:
        raise HTTPException(
            408,
            f"the request body did not arrive within server.body_timeout ({timeout_ms} ms)",
            headers={"Connection": "close"},
        ) from None
    return b"".join(chunks)

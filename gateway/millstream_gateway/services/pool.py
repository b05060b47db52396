"""A bounded pool of threads in front of the blocking core.

At most ``threads`` calls run and ``queue_max`` wait; one more is refused at once with
`OverloadedError`, so that memory and waiting time stay bounded under any load. A call keeps its
place until its thread has really ended, also when the caller has stopped waiting for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from millstream_gateway.errors import OverloadedError

T = TypeVar("T")


class BoundedPool:
    """Threads   `run` is for the event loop; the counters may be read from any thread."""

    def __init__(self, name: str, *, threads: int, queue_max: int) -> None:
        self.name = name
        self.capacity = threads + queue_max
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"millstream-{name}")
        self._lock = threading.Lock()
        self._in_use = 0
        self._refused = 0

    @property
    def in_use(self) -> int:
        """Calls that run or wait now."""
        return self._in_use

    @property
    def refused(self) -> int:
        """Calls that were refused since the start."""
        return self._refused

    async def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` on a thread and wait for it.

        Cancelling the wait drops the call when it has not begun; otherwise it runs on unobserved.
        """
        with self._lock:
            if self._in_use >= self.capacity:
                self._refused += 1
                raise OverloadedError(
                    f"the server is busy: {self.capacity} {self.name} calls are in progress or "
                    "waiting; try again in a moment"
                )
            self._in_use += 1
        try:
            future = self._executor.submit(work)
        except BaseException:
            self._release()
            raise
        future.add_done_callback(self._release)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drop what waits and return when what runs has ended."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _release(self, _future: Future[T] | None = None) -> None:
        with self._lock:
            self._in_use -= 1

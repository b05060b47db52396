"""A bounded pool of threads in front of the blocking core.

At most ``threads`` calls run and ``queue_max`` wait; one more is refused at once with
`OverloadedError`, so that memory and waiting time stay bounded under any load. A call keeps its
place until its thread has really ended, also when the caller has stopped waiting for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

from millstream_gateway.errors import OverloadedError

T = TypeVar("T")
_FULL_WAIT_SECONDS: Final = 0.05


class _Call:
    """One call on its way: through the queue to a thread, and its result back to the event loop.

    A future of `concurrent.futures` would do the same for several times the processor time, most of
    a small write's.
    """

    __slots__ = ("begun", "dropped", "future", "loop", "work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        # Both change under the pool's lock only, and at most one of them becomes true.
        self.begun = False
        self.dropped = False

    def tell(self, deliver: Callable[..., object], *arguments: object) -> None:
        """Have the event loop call ``deliver``; from any thread."""
        try:
            self.loop.call_soon_threadsafe(deliver, *arguments)
        except RuntimeError:
            # The loop is closed: nobody waits any more.
            return

    def succeed(self, result: object) -> None:
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class BoundedPool:
    """Threads   `run` is for the event loop; `close` and the counters are for any thread."""

    def __init__(self, name: str, *, threads: int, queue_max: int) -> None:
        self.name = name
        self.capacity = threads + queue_max
        self._threads_max = threads
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        # None ends one thread.
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._in_use = 0
        self._refused = 0
        self._closed = False

    @property
    def in_use(self) -> int:
        """Calls that run or wait now."""
        return self._in_use

    @property
    def refused(self) -> int:
        """Calls that were refused since the start."""
        return self._refused

    @property
    def has_room(self) -> bool:
        """Whether `run` would take a call now."""
        return self._in_use < self.capacity

    async def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` on a thread and wait for it.

        Cancelling the wait drops the call when it has not begun; otherwise it runs on unobserved.
        """
        call = _Call(work)
        with self._lock:
            if self._closed:
                raise RuntimeError(f"the {self.name} pool is closed")
            if self._in_use >= self.capacity:
                raise self._refuse()
            # A thread for each of the first calls; the rest share them.
            if len(self._threads) < min(self._in_use + 1, self._threads_max):
                self._add_thread()
            self._in_use += 1
            self._calls.put(call)
        try:
            result: T = await call.future
        except asyncio.CancelledError:
            self._drop(call)
            raise
        return result

    def check_room(self) -> None:
        """`OverloadedError` when `run` would refuse now: asked before a body is read in vain."""
        if not self.has_room:
            raise self.refuse()

    async def wait_and_run(self, work: Callable[[], T]) -> T:
        """As `run`, but wait while the pool is full: for work that comes one at a time."""
        while True:
            try:
                return await self.run(work)
            except OverloadedError:
                await asyncio.sleep(_FULL_WAIT_SECONDS)

    def close(self) -> None:
        """Drop what waits and return when what runs has ended."""
        with self._lock:
            self._closed = True
            threads, self._threads = self._threads, []
        while True:
            try:
                call = self._calls.get_nowait()
            except Empty:
                break
            if call is not None and self._drop(call):
                call.tell(call.future.cancel)
        for _ in threads:
            self._calls.put(None)
        for thread in threads:
            thread.join()

    def refuse(self) -> OverloadedError:
        """The error for what does not even come to wait for a call; it is counted."""
        with self._lock:
            return self._refuse()

    def _refuse(self) -> OverloadedError:
        self._refused += 1
        return OverloadedError(
            f"the server is busy: {self.capacity} {self.name} calls are in progress or "
            "waiting; try again in a moment"
        )

    def _add_thread(self) -> None:
        # A daemon, so that a pool which nobody closed does not keep the process alive.
        name = f"millstream-{self.name}_{len(self._threads)}"
        thread = threading.Thread(target=self._serve, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            with self._lock:
                call.begun = not call.dropped
            if call.begun:
                self._run(call)
            # Not kept until the next one comes: it holds a request's body.
            del call

    def _run(self, call: _Call) -> None:
        # The place is free again before the caller hears of it, who may call at once.
        try:
            result = call.work()
        except BaseException as error:
            self._release()
            call.tell(call.fail, error)
        else:
            self._release()
            call.tell(call.succeed, result)

    def _drop(self, call: _Call) -> bool:
        """Give back the place of a call that has not begun; whether there was one to give back."""
        with self._lock:
            if call.begun or call.dropped:
                return False
            call.dropped = True
            self._in_use -= 1
        return True

    def _release(self) -> None:
        with self._lock:
            self._in_use -= 1

"""Writers that go on through crashes of the server, and know exactly what it has acknowledged.

Every writer owns its series and sends one request at a time. Its samples are a function of writer, series and
sequence number, so what must be stored follows from one number: how many of its requests were acknowledged. A request
whose answer never came is sent again, unchanged, until it is acknowledged, as Prometheus does.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.services.http import Client
from tests.services.process import POLL_SECONDS, wait_until
from tests.services.remote_write import (
    Sample,
    Series,
    compress,
    encode_request,
    post,
    sorted_labels,
)

SERIES_PER_WRITER = 8
SAMPLES_PER_REQUEST = 10
SAMPLE_SPACING_MS = 5_000
PROGRESS_DEADLINE_SECONDS = 120.0
METRIC = "crash_test"
_MASK = (1 << 64) - 1


def deterministic_bits(writer: int, series: int, timestamp_ms: int) -> int:
    """A finite double's bits, as good as random (splitmix64's finaliser)."""
    state = (
        writer * 0x9E3779B97F4A7C15
        + series * 0xD1B54A32D192ED03
        + timestamp_ms * 0x8CB92BA72F3D8DD7
    ) & _MASK
    state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ state >> 27) * 0x94D049BB133111EB) & _MASK
    state ^= state >> 31
    # An exponent of all ones is an infinity or a NaN, which JSON does not carry bit by bit.
    return state & ~(1 << 62) if state >> 52 & 0x7FF == 0x7FF else state


@dataclass(frozen=True)
class Plan:
    """What a writer sends: `request(k)` for k = 0, 1, …"""

    writer: int
    first_ms: int

    def labels(self, series: int) -> dict[str, str]:
        return {"writer": str(self.writer), "series": str(series)}

    def timestamps(self, sequence: int) -> range:
        start = self.first_ms + sequence * SAMPLES_PER_REQUEST * SAMPLE_SPACING_MS
        return range(start, start + SAMPLES_PER_REQUEST * SAMPLE_SPACING_MS, SAMPLE_SPACING_MS)

    def samples(self, series: int, sequence: int) -> Iterator[Sample]:
        for timestamp_ms in self.timestamps(sequence):
            yield Sample(timestamp_ms, deterministic_bits(self.writer, series, timestamp_ms))

    def request(self, sequence: int) -> bytes:
        return compress(
            encode_request(
                Series(
                    sorted_labels(METRIC, **self.labels(series)),
                    list(self.samples(series, sequence)),
                )
                for series in range(SERIES_PER_WRITER)
            )
        )


class Endpoint:
    """Where the server is now, or that it is away. One thread sets it, the writers wait for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._url: str | None = None

    def publish(self, url: str | None) -> None:
        with self._changed:
            self._url = url
            self._changed.notify_all()

    def wait(self, abort: threading.Event) -> str | None:
        """The URL, once there is one; None when `abort` was set first."""
        with self._changed:
            while self._url is None and not abort.is_set():
                self._changed.wait(POLL_SECONDS)
            return None if abort.is_set() else self._url


class Writer(threading.Thread):
    """Sends its plan's requests in order, each until it is acknowledged.

    Threads     Only this thread writes the public counters; others read them, and see each one whole.
    """

    def __init__(self, plan: Plan, endpoint: Endpoint) -> None:
        super().__init__(name=f"writer-{plan.writer}", daemon=True)
        self.plan = plan
        # The number of requests acknowledged: exactly the sequences below it.
        self.acknowledged = 0
        # Requests whose answer did not come at the first attempt.
        self.interrupted = 0
        # Answers that asked for a retry (429 and 5xx).
        self.put_off: list[str] = []
        # Set when the server answered with something that no retry can mend; the thread ends then.
        self.refused: str | None = None
        self._endpoint = endpoint
        self._client: Client | None = None
        self._finish = threading.Event()
        self._abort = threading.Event()

    def finish(self) -> None:
        """Asks for an end once the request under way is acknowledged."""
        self._finish.set()

    def abort(self) -> None:
        """Asks for an end at once, acknowledged or not."""
        self._finish.set()
        self._abort.set()

    def run(self) -> None:
        while not self._finish.is_set() and self.refused is None:
            if self._send_until_acknowledged(self.plan.request(self.acknowledged)):
                self.acknowledged += 1
        if self._client is not None:
            self._client.close()

    def _connect(self, url: str) -> Client:
        if self._client is not None and self._client.base_url == url:
            return self._client
        if self._client is not None:
            self._client.close()
        self._client = Client(url)
        return self._client

    def _send_until_acknowledged(self, body: bytes) -> bool:
        failed_before = False
        while True:
            url = self._endpoint.wait(self._abort)
            if url is None:
                return False
            client = self._connect(url)
            try:
                response = post(client, body)
            except (OSError, http.client.HTTPException):
                self.interrupted += not failed_before
                failed_before = True
                self._abort.wait(POLL_SECONDS)
                continue
            if 200 <= response.status < 300:
                return True
            if response.status != 429 and response.status < 500:
                self.refused = f"{self.name}: {response.status} {response.text[:500]}"
                return False
            self.put_off.append(f"{response.status} {response.text[:200]}")
            self._abort.wait(POLL_SECONDS)


def wait_for_requests(writers: list[Writer], more: int) -> None:
    """Returns when all writers together have so many more requests acknowledged."""
    goal = sum(writer.acknowledged for writer in writers) + more

    def reached() -> bool:
        refused = [writer.refused for writer in writers if writer.refused]
        assert not refused, f"the server refused good data: {refused}"
        return sum(writer.acknowledged for writer in writers) >= goal

    wait_until(f"{more} more requests acknowledged", PROGRESS_DEADLINE_SECONDS, reached)


@contextmanager
def writing(writers: list[Writer]) -> Iterator[None]:
    """Runs the writers round a block; whatever ends it, they end too."""
    for writer in writers:
        writer.start()
    try:
        yield
    finally:
        for writer in writers:
            writer.abort()
        for writer in writers:
            writer.join()

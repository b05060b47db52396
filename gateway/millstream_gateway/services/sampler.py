"""Samples this machine and the server itself into the engine, so that there is data at once.

The samples take the way of any other text: they are rendered as exposition and pushed.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import structlog

from millstream.errors import MillstreamError
from millstream_gateway.backends.protocol import Backend
from millstream_gateway.schemas.access import DEFAULT_TENANT_ID
from millstream_gateway.schemas.push import WriteBody
from millstream_gateway.services.host_metrics import HostSample, sample_host
from millstream_gateway.services.own_metrics import OwnMetrics
from millstream_gateway.settings import SampleSettings

log = structlog.get_logger(__name__)

_HOST_JOB: Final = "host"
_SERVER_JOB: Final = "millstream"


class Sampler:
    """Pushes every interval from a thread of its own, when it is switched on.

    Threads  `start` and `stop` from one thread; `stop` returns when the last push has ended.
    """

    def __init__(
        self,
        backend: Backend,
        metrics: OwnMetrics,
        settings: SampleSettings,
        sample: Callable[[], Iterator[HostSample]] = sample_host,
    ) -> None:
        self._backend = backend
        self._metrics = metrics
        self._settings = settings
        self._sample = sample
        self._instance = socket.gethostname()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._settings.host and self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="millstream-sampler")
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def sample_once(self, time_ms: int) -> int:
        """Push one sample of everything at ``time_ms``; how many samples were stored."""
        text = "".join(self._lines(time_ms)).encode()
        outcome = self._backend.push(DEFAULT_TENANT_ID, WriteBody("text", text, time_ms))
        if outcome.rejected:
            log.warning(
                "own samples were refused",
                rejected=outcome.rejected,
                first=outcome.errors[0].reason if outcome.errors else "",
            )
        return outcome.samples

    def _lines(self, time_ms: int) -> Iterator[str]:
        described: set[str] = set()
        host = {"job": _HOST_JOB, "instance": self._instance}
        server = {"job": _SERVER_JOB, "instance": self._instance}
        for sample in self._sample():
            if sample.name not in described:
                described.add(sample.name)
                yield f"# HELP {sample.name} {_escape_help(sample.help)}\n"
                yield f"# TYPE {sample.name} {sample.type}\n"
            yield _line(sample.name, {**host, **sample.labels}, sample.value, time_ms)
        for family in self._metrics.registry.collect():
            suffix = "_total" if family.type == "counter" else ""
            yield f"# HELP {family.name}{suffix} {_escape_help(family.documentation)}\n"
            yield f"# TYPE {family.name}{suffix} {family.type}\n"
            for item in family.samples:
                if not item.name.endswith("_created"):
                    labels = {**server, **item.labels}
                    yield _line(item.name, labels, item.value, time_ms)

    def _loop(self) -> None:
        interval = self._settings.interval / 1000
        due = time.monotonic()
        while not self._stopping.is_set():
            try:
                self.sample_once(time.time_ns() // 1_000_000)
            except MillstreamError as error:
                log.warning("sampling this machine failed", error=error.message)
            except OSError as error:
                log.warning("this machine could not be read", error=str(error))
            # Keep to the grid of intervals; skip the ones that a slow push has overrun.
            due += interval
            due = max(due, time.monotonic())
            self._stopping.wait(due - time.monotonic())


def _line(name: str, labels: Mapping[str, str], value: float, time_ms: int) -> str:
    pairs = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
    return f"{name}{{{pairs}}} {value!r} {time_ms}\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")

"""The contract between the services and whatever stores the data.

Threads  Every method may block and is called from worker threads, several at a time, never from the
         event loop. A call that waits long (a query) takes a `CancelSignal` and ends soon after it
         is thrown, with `CancelledError`.
Errors   Only classes of `millstream.errors`. A write that stores some items and refuses others is
         an answer, not an error: `PushOutcome` says what was refused and why. Only a body that
         cannot be understood at all raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from millstream.errors import MillstreamError
from millstream_gateway.backends.cancel import CancelSignal
from millstream_gateway.backends.events import EventStore
from millstream_gateway.backends.tls_files import CertificateState
from millstream_gateway.schemas.access import TenantId
from millstream_gateway.schemas.limits import SeriesLimits
from millstream_gateway.schemas.push import PushOutcome, WriteBody
from millstream_gateway.schemas.queries import (
    ExemplarQuery,
    InstantQuery,
    MetricMetadata,
    QueryAnswer,
    RangeQuery,
    RemoteRead,
    RemoteReadAnswer,
    Selection,
)


class PushLane(Protocol):
    """Groups of writes to the store, by threads that do not run Python.

    Threads  Event loop only; nothing in it blocks but `close`.
    """

    def fileno(self) -> int:
        """A descriptor that is readable when `collect` has something to give."""

    def submit(self, writes: Sequence[tuple[TenantId, WriteBody]]) -> int:
        """As `Backend.push_all`, for whole tenants; returns the group's number for `collect`."""

    def collect(self) -> list[tuple[int, list[PushOutcome | MillstreamError]]]:
        """What became of the groups that are done, each told once."""

    def close(self) -> None:
        """Wait until all is done that was submitted; `collect` still tells of it."""


class Backend(Protocol):
    """Metrics in, answers out.

    A tenant's data is reached through its number and by nothing else: no call sees, counts or
    changes what another number has.
    """

    @property
    def events(self) -> EventStore:
        """Topics and what is published to them."""

    def open(self) -> None:
        """Make ready to serve; recovery happens here. Calling it again changes nothing."""

    def close(self) -> None:
        """Flush and let go of everything. Calling it again changes nothing."""

    def check_ready(self) -> None:
        """Return when requests can be served now; raise `UnavailableError` with the reason."""

    def limit_series(self, limits: Callable[[TenantId], SeriesLimits]) -> None:
        """Ask this for each write: what holds for new series of the tenant."""

    def push(self, tenant: TenantId, write: WriteBody) -> PushOutcome:
        """Store what a body says; positions in the outcome are as its format counts them."""

    def push_all(
        self, writes: Sequence[tuple[TenantId, WriteBody]]
    ) -> list[PushOutcome | MillstreamError]:
        """Store several bodies at once; in place of an outcome stands the error of that body."""

    def push_lane(self, threads: int, /) -> PushLane | None:
        """A lane of its own for whoever asks, who closes it first; None where `push_all` is all."""

    def query(self, tenant: TenantId, request: InstantQuery, cancel: CancelSignal) -> QueryAnswer:
        """Evaluate PromQL at one time."""

    def query_range(
        self, tenant: TenantId, request: RangeQuery, cancel: CancelSignal
    ) -> QueryAnswer:
        """Evaluate PromQL over a range."""

    def query_exemplars(self, tenant: TenantId, request: ExemplarQuery) -> QueryAnswer:
        """Exemplars, ascending by series and then by time."""

    def remote_read(
        self, tenant: TenantId, request: RemoteRead, cancel: CancelSignal
    ) -> RemoteReadAnswer:
        """Answer a remote read."""

    def series(self, tenant: TenantId, selection: Selection) -> list[dict[str, str]]:
        """The label sets of the selected series, at most ``selection.limit`` unless that is 0."""

    def label_names(self, tenant: TenantId, selection: Selection) -> list[str]:
        """Sorted names of the labels that the selected series have."""

    def label_values(self, tenant: TenantId, name: str, selection: Selection) -> list[str]:
        """Sorted values of one label among the selected series."""

    def metadata(
        self, tenant: TenantId, metric: str, limit: int, limit_per_metric: int
    ) -> Mapping[str, Sequence[MetricMetadata]]:
        """Metadata by metric name; an empty ``metric`` means all, limits of 0 mean none."""

    def format_query(self, expression: str) -> str:
        """The expression, pretty-printed."""

    def parse_query(self, expression: str) -> bytes:
        """The expression's syntax tree, in the JSON of Prometheus."""

    def tsdb_status(self, tenant: TenantId, limit: int) -> Mapping[str, Any]:
        """Head statistics in the shape of Prometheus's status/tsdb, ``limit`` entries a list."""

    def certificates(self) -> Sequence[CertificateState]:
        """What is known of the certificates that the backend shows to others."""

    def stats(self) -> Mapping[str, float]:
        """The store's own counters and gauges by metric name, ``_total`` marking counters."""

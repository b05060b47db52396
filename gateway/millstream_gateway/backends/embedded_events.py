"""Events of the engine in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from millstream.errors import MillstreamError
from millstream_gateway.backends.events import (
    EventNotifier,
    EventSubscription,
    Frames,
    NativeSubscription,
)
from millstream_gateway.schemas.access import TenantId
from millstream_gateway.schemas.events import (
    ANYBODY,
    CommitBy,
    EventStatus,
    Fetched,
    GroupMember,
    GroupOffset,
    NewEvent,
    Placement,
    StoredEvent,
    SubscriptionRequest,
    TopicInfo,
    TopicOptions,
    Where,
)

if TYPE_CHECKING:
    from millstream._core import Engine


# Of who does not say; it means nothing to readers that block.
_LAG_MAX: Final = 100_000


class EmbeddedEvents:
    """`EventStore` over ``millstream._core.Engine``. Conversion only."""

    def __init__(self, engine: Callable[[], Engine], series_max: Callable[[TenantId], int]) -> None:
        self._engine = engine
        self._series_max = series_max

    def create_topic(self, tenant: TenantId, name: str, options: TopicOptions) -> TopicInfo:
        made = self._engine().create_topic(name, **options, tenant=int(tenant))
        return cast(TopicInfo, made)

    def alter_topic(self, tenant: TenantId, name: str, changes: TopicOptions) -> TopicInfo:
        altered = self._engine().alter_topic(name, dict(changes), tenant=int(tenant))
        return cast(TopicInfo, altered)

    def delete_topic(self, tenant: TenantId, name: str) -> None:
        self._engine().delete_topic(name, tenant=int(tenant))

    def describe_topic(self, tenant: TenantId, name: str) -> TopicInfo:
        return cast(TopicInfo, self._engine().describe_topic(name, tenant=int(tenant)))

    def list_topics(self, tenant: TenantId) -> list[TopicInfo]:
        return cast(list[TopicInfo], self._engine().list_topics(tenant=int(tenant)))

    def publish(
        self, tenant: TenantId, events: Sequence[NewEvent]
    ) -> list[Placement | MillstreamError]:
        answers: list[Any] = self._engine().publish(
            list(events), tenant=int(tenant), series_max=self._series_max(tenant)
        )
        return [one if isinstance(one, MillstreamError) else Placement(*one) for one in answers]

    def fetch(
        self,
        tenant: TenantId,
        topic: str,
        partition: int,
        offset: Where,
        *,
        limit: int,
        bytes_max: int,
    ) -> Fetched:
        events, next_offset, end_offset = self._engine().fetch(
            topic, partition, offset, limit=limit, bytes_max=bytes_max, tenant=int(tenant)
        )
        return Fetched([StoredEvent(*one) for one in events], next_offset, end_offset)

    def offset_at(self, tenant: TenantId, topic: str, partition: int, timestamp_ms: int) -> int:
        return self._engine().offset_at(topic, partition, timestamp_ms, tenant=int(tenant))

    def event_status(self, tenant: TenantId, event_id: str) -> EventStatus:
        return EventStatus(*self._engine().event_status(event_id, tenant=int(tenant)))

    def group_offsets(self, tenant: TenantId, group: str) -> list[GroupOffset]:
        return [
            GroupOffset(*one) for one in self._engine().group_offsets(group, tenant=int(tenant))
        ]

    def commit_offsets(
        self,
        tenant: TenantId,
        group: str,
        offsets: Sequence[tuple[str, int, int]],
        by: CommitBy = ANYBODY,
    ) -> None:
        self._engine().commit_offsets(
            group,
            list(offsets),
            member=by.member,
            generation=by.generation,
            reset=by.reset,
            tenant=int(tenant),
        )

    def describe_group(self, tenant: TenantId, group: str) -> tuple[int, list[GroupMember]]:
        found: tuple[int, list[Any]] = self._engine().describe_group(group, tenant=int(tenant))
        generation, members = found
        return generation, [GroupMember(*one) for one in members]

    def nack_events(
        self,
        tenant: TenantId,
        group: str,
        member: str,
        places: Sequence[tuple[str, int, int]],
        delay_ms: int | None,
        reason: str,
    ) -> None:
        self._engine().nack_events(
            group, member, list(places), delay_ms=delay_ms, reason=reason, tenant=int(tenant)
        )

    def list_groups(self, tenant: TenantId) -> list[str]:
        return self._engine().list_groups(tenant=int(tenant))

    def make_notifier(self) -> EventNotifier:
        from millstream import _core

        return cast(EventNotifier, _core.Notifier())

    def subscribe(
        self, tenant: TenantId, request: SubscriptionRequest, notifier: EventNotifier
    ) -> EventSubscription:
        subscription = self._engine().subscribe(
            list(request.topics),
            offsets=cast(Any, request.offsets),
            on_slow=request.on_slow,
            lag_max=request.lag_max or _LAG_MAX,
            filter=request.filter,
            group=request.group,
            session_timeout_ms=request.consumer.session_timeout_ms,
            rebalance_timeout_ms=request.consumer.rebalance_timeout_ms,
            # Its reader is at the other end of a socket, and alive as long as that is.
            pushed=True,
            max_attempts=request.consumer.max_attempts,
            dead_letter_topic=request.consumer.dead_letter_topic,
            backoff_ms=request.consumer.backoff_ms,
            backoff_cap_ms=request.consumer.backoff_max_ms,
            notifier=cast(Any, notifier),
            tenant=int(tenant),
        )
        return cast(EventSubscription, subscription)

    def poll_frames(
        self,
        subscriptions: Sequence[tuple[EventSubscription, bytes]],
        *,
        limit: int,
        bytes_max: int,
        total_bytes_max: int,
        memory_only: bool = False,
    ) -> list[Frames | MillstreamError | None]:
        from millstream import _core

        return _core.poll_frames(
            cast(Any, subscriptions),
            limit=limit,
            bytes_max=bytes_max,
            total_bytes_max=total_bytes_max,
            memory_only=memory_only,
        )

    def publish_native(
        self,
        tenant: TenantId,
        payloads: Sequence[bytes],
        forbidden: Mapping[bytes, tuple[int, str]],
    ) -> list[tuple[bytes, int, int]]:
        return self._engine().publish_native(
            payloads,
            cast(Any, forbidden),
            tenant=int(tenant),
            series_max=self._series_max(tenant),
        )

    def fetch_native(self, tenant: TenantId, payload: bytes) -> bytes:
        return self._engine().fetch_native(payload, tenant=int(tenant))

    def subscribe_native(
        self,
        tenant: TenantId,
        payload: bytes,
        topics: Sequence[str] | None,
        notifier: EventNotifier,
    ) -> NativeSubscription:
        return self._engine().subscribe_native(
            payload, topics, cast(Any, notifier), tenant=int(tenant)
        )

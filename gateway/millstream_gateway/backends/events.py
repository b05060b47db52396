"""The contract between the services and whatever stores events.

Threads  As `Backend`: every method may block and is called from worker threads. Only what says so
         is for the event loop.
Errors   `NotFoundError` for a topic that is not there, also when it is another tenant's;
         `OutOfRangeError` for an offset before the first that is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from millstream.errors import MillstreamError, UnimplementedError
from millstream_gateway.schemas.access import TenantId
from millstream_gateway.schemas.event_json import text_frame
from millstream_gateway.schemas.events import (
    CommitBy,
    EventStatus,
    Fetched,
    GroupMember,
    GroupOffset,
    NewEvent,
    Placement,
    SubscriptionRequest,
    TopicInfo,
    TopicOptions,
    Where,
)


class EventNotifier(Protocol):
    """Tells which subscriptions have something. Threads: the event loop; nothing blocks."""

    def fileno(self) -> int:
        """A descriptor that is readable while `take` has something."""

    def take(self) -> Sequence[int]:
        """The tokens of subscriptions that have had something new since they were last taken."""


class EventSubscription(Protocol):
    """One reader of topics, at a place in each. Threads: one at a time."""

    @property
    def token(self) -> int:
        """What its notifier calls it."""

    @property
    def member(self) -> str:
        """What its group calls it; empty without one."""

    def poll_json(self, limit: int, bytes_max: int) -> tuple[list[bytes], int]:
        """The next events, each a JSON object with a type, and how many were dropped before them.

        Does not wait for any; may read files. When it left any, or more come, its notifier tells.

        `ResourceExhaustedError` when it fell behind and is one that ends then.
        """

    def check(self) -> None:
        """Raise what a poll would because it is too far behind, without a step forward."""

    def position(self) -> dict[str, dict[int, int]]:
        """The offset of the next event by topic and partition."""

    def close(self) -> None:
        """Let go. Calling it again changes nothing."""


#: What a subscription has for its WebSocket: frames, how many events they are, and how many events
#: were dropped before them.
Frames = tuple[bytes, int, int]


def _frames_of(
    subscription: EventSubscription, head: bytes, limit: int, bytes_max: int
) -> Frames | MillstreamError:
    """One answer of `EventStore.poll_frames`."""
    try:
        events, dropped = subscription.poll_json(limit, bytes_max)
    except MillstreamError as error:
        return error
    return b"".join([text_frame(head + one[1:]) for one in events]), len(events), dropped


class NativeSubscription(Protocol):
    """One reader of topics that gives native frames. Threads: one at a time."""

    @property
    def token(self) -> int:
        """What its notifier calls it."""

    @property
    def subscription(self) -> int:
        """What its client calls it."""

    @property
    def has_more(self) -> bool:
        """Whether `next` may have something more without further news or credit."""

    def welcome(self) -> bytes:
        """The first frame about it."""

    def add_credit(self, events: int) -> None:
        """So many more events may be sent."""

    def next(self) -> bytes:
        """The next frame, empty when there is none. Does not wait; may read files."""

    def close(self) -> None:
        """Let go. Calling it again changes nothing."""


class EventStore(Protocol):
    """Topics, what is published to them, and how far groups have read."""

    def create_topic(self, tenant: TenantId, name: str, options: TopicOptions) -> TopicInfo:
        """Make a topic; `AlreadyExistsError` when it is there."""

    def alter_topic(self, tenant: TenantId, name: str, changes: TopicOptions) -> TopicInfo:
        """Change some options of a topic."""

    def delete_topic(self, tenant: TenantId, name: str) -> None:
        """Remove a topic and all its events."""

    def describe_topic(self, tenant: TenantId, name: str) -> TopicInfo:
        """One topic, with what its partitions hold."""

    def list_topics(self, tenant: TenantId) -> list[TopicInfo]:
        """All topics by name, without their partitions."""

    def publish(
        self, tenant: TenantId, events: Sequence[NewEvent]
    ) -> list[Placement | MillstreamError]:
        """Store events as their topics promise; in place of a refused one stands its error."""

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
        """Events of one partition, none when there are none yet."""

    def offset_at(self, tenant: TenantId, topic: str, partition: int, timestamp_ms: int) -> int:
        """The offset of the first event at that time or after it."""

    def event_status(self, tenant: TenantId, event_id: str) -> EventStatus:
        """Where the event with this id is; `NotFoundError` when there is none."""

    def group_offsets(self, tenant: TenantId, group: str) -> list[GroupOffset]:
        """How far a group is with each partition; nothing for a group that never committed."""

    def commit_offsets(
        self,
        tenant: TenantId,
        group: str,
        offsets: Sequence[tuple[str, int, int]],
        by: CommitBy = ...,
    ) -> None:
        """Keep how far a group is: topic, partition, and the offset that it wants next.

        `FailedPreconditionError` for a member that does not own the partitions, and for going back
        while the group has members.
        """

    def describe_group(self, tenant: TenantId, group: str) -> tuple[int, list[GroupMember]]:
        """The group's generation, and who is in it; 0 and nobody for one without members."""

    def nack_events(
        self,
        tenant: TenantId,
        group: str,
        member: str,
        places: Sequence[tuple[str, int, int]],
        delay_ms: int | None,
        reason: str,
    ) -> None:
        """Have events that a subscription got come again later, by topic, partition and offset."""

    def list_groups(self, tenant: TenantId) -> list[str]:
        """The groups that have committed anything."""

    def make_notifier(self) -> EventNotifier:
        """For `subscribe`."""

    def subscribe(
        self, tenant: TenantId, request: SubscriptionRequest, notifier: EventNotifier
    ) -> EventSubscription:
        """Begin to read."""

    def poll_frames(
        self,
        subscriptions: Sequence[tuple[EventSubscription, bytes]],
        *,
        limit: int,
        bytes_max: int,
        total_bytes_max: int,
        memory_only: bool = False,
    ) -> list[Frames | MillstreamError | None]:
        """Poll each as `poll_json` does, for its WebSocket.

        The text of each frame is the head, which is the beginning of a JSON object up to a comma,
        and then the event's object without its first brace. In place of an answer stands the error.
        Those who get the same may get the same object, which counts once in the total. None was
        not polled: there was so much already, or it needs more than ``memory_only`` allows, which
        is quick enough for the event loop.
        """

    def publish_native(
        self,
        tenant: TenantId,
        payloads: Sequence[bytes],
        forbidden: Mapping[bytes, tuple[int, str]],
    ) -> list[tuple[bytes, int, int]]:
        """Store the events of native frames, together.

        Of each frame its answer, and how many events were stored and refused. ``forbidden`` has
        for topics why their events are refused: a code and a reason.
        """

    def fetch_native(self, tenant: TenantId, payload: bytes) -> bytes:
        """The frame that answers a fetch."""

    def subscribe_native(
        self,
        tenant: TenantId,
        payload: bytes,
        topics: Sequence[str] | None,
        notifier: EventNotifier,
    ) -> NativeSubscription:
        """Begin to read what the frame says, or these topics of it."""


class JsonOnly:
    """What an `EventStore` without native frames says to them; it polls one after the other."""

    #: Why there are none.
    _no_frames: ClassVar[str]

    def poll_frames(
        self,
        subscriptions: Sequence[tuple[EventSubscription, bytes]],
        *,
        limit: int,
        bytes_max: int,
        total_bytes_max: int,
        memory_only: bool = False,
    ) -> list[Frames | MillstreamError | None]:
        if memory_only:
            return [None for _ in subscriptions]
        total = 0
        polled: list[Frames | MillstreamError | None] = []
        for subscription, head in subscriptions:
            if total >= total_bytes_max:
                polled.append(None)
                continue
            found = _frames_of(subscription, head, limit, bytes_max)
            polled.append(found)
            total += 0 if isinstance(found, MillstreamError) else len(found[0])
        return polled

    def publish_native(
        self,
        tenant: TenantId,
        payloads: Sequence[bytes],
        forbidden: Mapping[bytes, tuple[int, str]],
    ) -> list[tuple[bytes, int, int]]:
        raise UnimplementedError(self._no_frames)

    def fetch_native(self, tenant: TenantId, payload: bytes) -> bytes:
        raise UnimplementedError(self._no_frames)

    def subscribe_native(
        self,
        tenant: TenantId,
        payload: bytes,
        topics: Sequence[str] | None,
        notifier: EventNotifier,
    ) -> NativeSubscription:
        raise UnimplementedError(self._no_frames)

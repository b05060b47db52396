"""Topics that are fed from metrics, and whether who asked for that may still read those.

Readers of such a topic see its samples, whatever access lists say of the metrics; so whoever sets the
selectors must be allowed to read them. Who that was is kept beside the access lists. When these
change, also by another process, each feed is asked for again, and one that could not be set any more
ends: its selectors are removed, its events stay.

Threads  Any. `set_by`, `removed` and `check` block.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from millstream.errors import AbortedError, DataLossError, MillstreamError, NotFoundError
from millstream_gateway.backends.events import EventStore
from millstream_gateway.backends.meta_store import Kind, MetaStore, RecordKey
from millstream_gateway.schemas.access import (
    Acl,
    Action,
    Caller,
    Principal,
    Resource,
    Role,
    TenantId,
)
from millstream_gateway.services.audit import AuditLog
from millstream_gateway.services.authorization import decide

log = structlog.get_logger(__name__)

#: How often `check` is worth calling: what it must see is over within some seconds.
CHECK_SECONDS: Final = 1.0


class FedTopics:
    """Invariants  A feed that was found good is good until a line of the access lists changes."""

    def __init__(
        self,
        meta: MetaStore,
        topics: EventStore,
        audit: AuditLog,
        acls: Callable[[], Sequence[Acl]],
        are_within: Callable[[Sequence[str], Sequence[str], Sequence[str]], bool],
    ) -> None:
        self._meta = meta
        self._topics = topics
        self._audit = audit
        self._acls = acls
        self._are_within = are_within
        self._checking = threading.Lock()
        self._asked: tuple[Acl, ...] | None = None
        # Versions of the records of feeds that are good by those lines.
        self._good: dict[str, int] = {}

    def may_feed(self, principal: Principal, tenant: str, selectors: Sequence[str]) -> str:
        """Why not; empty when they may."""
        decision = decide(principal, Action.READ, Resource(frozenset({tenant})), self._acls())
        if not decision.allowed:
            return decision.reason
        visible = decision.metrics.get(tenant)
        if visible is None or self._are_within(selectors, *visible):
            return ""
        return (
            f"from_metrics would show readers of the topic more than {principal.name} may see: "
            "access lists allow a part of this tenant's metrics, and each selector must lie within "
            "it by its own matchers"
        )

    def set_by(self, caller: Caller, topic: str) -> None:
        """The topic is fed now, as this caller wants. When that cannot be kept it is fed no more."""
        try:
            self._meta.commit({_key(caller.tenant, topic): _to_value(caller, topic)})
        except MillstreamError:
            self._topics.alter_topic(caller.tenant, topic, {"from_metrics": []})
            raise
        # The lists may have changed since the caller was asked.
        self.check()

    def removed(self, caller: Caller, topic: str) -> None:
        """The topic is fed no more, or is gone."""
        key = _key(caller.tenant, topic)
        if self._meta.snapshot().get(*key) is not None:
            self._meta.commit({}, [key])

    def check(self) -> None:
        """End every feed that could not be set any more. One that fails is tried by the next call."""
        with self._checking:
            acls = tuple(self._acls())
            if acls != self._asked:
                self._asked, self._good = acls, {}
            for feed, record in self._meta.snapshot().of_kind(Kind.FEED).items():
                if self._good.get(feed) == record.version:
                    continue
                try:
                    setter, topic = _from_value(feed, record.value)
                    self._check_one(feed, record.version, setter, topic)
                except MillstreamError as error:
                    log.warning("a feed could not be checked", feed=feed, error=error.message)
                    continue
                self._good[feed] = record.version

    def _check_one(self, feed: str, version: int, setter: Caller, topic: str) -> None:
        principal, tenant = setter.principal, setter.tenant_name
        if not any(acl.is_about(principal, Action.READ, tenant) for acl in self._acls()):
            return
        try:
            selectors = self._topics.describe_topic(setter.tenant, topic)["from_metrics"]
        except NotFoundError:
            selectors = []
        reason = self.may_feed(principal, tenant, selectors) if selectors else ""
        if selectors and not reason:
            return
        if selectors:
            self._topics.alter_topic(setter.tenant, topic, {"from_metrics": []})
            log.warning("a topic is fed no more", topic=topic, tenant=tenant, reason=reason)
            self._audit.record(
                setter,
                "topic.feed",
                "forbidden",
                topic=topic,
                tenant=tenant,
                from_metrics=list(selectors),
                reason=reason,
            )
        key = (Kind.FEED, feed)
        try:
            self._meta.commit({}, [key], expect={key: version})
        except AbortedError:
            log.debug("the feed was set again meanwhile", feed=feed)


def _key(tenant: TenantId, topic: str) -> RecordKey:
    return Kind.FEED, f"{int(tenant)}/{topic}"


def _to_value(setter: Caller, topic: str) -> dict[str, Any]:
    principal = setter.principal
    return {
        "tenant": setter.tenant_name,
        "tenant_id": int(setter.tenant),
        "topic": topic,
        "kind": principal.kind,
        "id": principal.id,
        "name": principal.name,
        "role": principal.role.value,
        "verbs": sorted(principal.verbs),
        "tenants": sorted(principal.tenants),
        "set_ms": time.time_ns() // 1_000_000,
    }


def _from_value(feed: str, value: Mapping[str, Any]) -> tuple[Caller, str]:
    try:
        principal = Principal(
            kind=value["kind"],
            id=value["id"],
            name=value["name"],
            role=Role(value["role"]),
            verbs=frozenset(map(Action, value["verbs"])),
            tenants=frozenset(value["tenants"]),
        )
        return Caller(principal, TenantId(value["tenant_id"]), value["tenant"]), value["topic"]
    except (KeyError, TypeError, ValueError) as error:
        raise DataLossError(f"the record of feed {feed} is damaged: {error}") from None

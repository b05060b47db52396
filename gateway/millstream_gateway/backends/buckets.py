"""Where buckets are kept: in this process here, or in a Redis that several gateways share.

The rules are the same in both; `schemas.limits.Rule` says what a bucket is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from millstream_gateway.schemas.limits import LET_IN, Plan, Unit, Verdict

BUCKETS_MAX: Final = 100_000
# A member of an enumeration costs more to find than a global, and each request asks several times.
_REQUESTS: Final = Unit.REQUESTS
_BYTES: Final = Unit.BYTES
# What a sum of a thousand steps may be wrong by, as a part of one step.
_TOLERANCE: Final = 1e-3


class LocalBuckets:
    """Buckets in memory, at most ``BUCKETS_MAX``.

    A bucket that is full again says nothing that a new one would not, so it may be forgotten. When
    all are in use, the one that was made first goes: a stranger with many addresses can make others
    lose their debts then, never get a request refused.

    Threads  Event loop only.
    Cost     One look-up for each rule to ask, one to pay.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, buckets_max: int = BUCKETS_MAX
    ) -> None:
        self._clock = clock
        self._max = buckets_max
        # When each bucket will be full.
        self._full_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def admit(self, plan: Plan, size: int) -> Verdict:
        """Let a request of so many bytes in, or say which rule is against it.

        A request that is refused pays nothing, to no rule.
        """
        now = self._clock()
        full_at = self._full_at
        nearest, least, room_left = None, 2.0, 0.0
        for rule in plan.rules:
            debt = full_at.get(rule.key, 0.0) - now
            room = rule.burst - debt if debt > 0 else rule.burst
            if rule.unit is _REQUESTS:
                after = room - rule.step
                if after < -rule.step * _TOLERANCE:
                    return Verdict(rule, 0.0, -after)
            else:
                if room <= 0:
                    return Verdict(rule, 0.0, max(-room, rule.step))
                after = room - size * rule.step if rule.unit is _BYTES else room
            share = after / rule.burst
            if share < least:
                nearest, least, room_left = rule, share, after
        if nearest is None:
            return LET_IN
        for rule in plan.rules:
            if rule.unit is _REQUESTS:
                self._pay(rule.key, rule.step, now)
            elif rule.unit is _BYTES and size:
                self._pay(rule.key, rule.step * size, now)
        return Verdict(nearest, room_left)

    def charge(self, plan: Plan, unit: Unit, count: int) -> None:
        """Pay afterwards, into debt if need be."""
        now = self._clock()
        for rule in plan.rules:
            if rule.unit is unit:
                self._pay(rule.key, rule.step * count, now)

    def _pay(self, key: str, seconds: float, now: float) -> None:
        full_at = self._full_at
        before = full_at.get(key)
        if before is None:
            if len(full_at) >= self._max:
                self._make_room(now)
            before = now
        full_at[key] = (before if before > now else now) + seconds

    def _make_room(self, now: float) -> None:
        """Forget what is full, or else the first tenth; rare enough to look at all of them."""
        kept = {key: at for key, at in self._full_at.items() if at > now}
        if len(kept) >= self._max:
            for key in list(kept)[: self._max // 10 + 1]:
                del kept[key]
        self._full_at = kept

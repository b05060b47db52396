"""How much each caller, client address and tenant may ask for, and what is left of it.

The guard asks once for each request, after it knows who calls and before the body is read. What is
known then (one request, so many bytes) is paid then; samples are paid when they are stored.

A plan, all rules for one caller at one kind of route, is made once and remembered until a setting
changes, so that the usual request costs one look-up for the plan and one for each of its rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from millstream_gateway.backends.buckets import LocalBuckets
from millstream_gateway.errors import LimitExceededError
from millstream_gateway.schemas.access import Caller
from millstream_gateway.schemas.limits import (
    SCOPE_WORDS,
    Plan,
    Rule,
    Scope,
    Unit,
    Verdict,
    limit_header,
    policy_header,
)
from millstream_gateway.services.client_address import network_of_client
from millstream_gateway.settings import Settings

_PLANS_MAX: Final = 20_000
_PREFIX: Final = {Scope.TENANT: "", Scope.CALLER: "caller_", Scope.CLIENT: "client_"}
_UNIT_NAMES: Final = {
    Unit.REQUESTS: "requests_per_second",
    Unit.SAMPLES: "samples_per_second",
    Unit.BYTES: "bytes_per_second",
}
_UNIT_WORDS: Final = {
    Unit.REQUESTS: "requests",
    Unit.SAMPLES: "samples",
    Unit.BYTES: "bytes of bodies",
}
_JSON: Final = "json_requests_per_second"
_PlanKey = tuple[int, str, str, str, bool, bool]


class Admission:
    """One request that was let in: what its answer says, and who pays for what it brought."""

    __slots__ = ("_limiter", "plan", "verdict")

    def __init__(self, limiter: Limiter, plan: Plan, verdict: Verdict) -> None:
        self._limiter = limiter
        self.plan = plan
        self.verdict = verdict

    def charge(self, unit: Unit, count: int) -> None:
        """Pay for what is known only now."""
        if count > 0:
            self._limiter.charge(self.plan, unit, count)

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """For the answer, whatever it is."""
        if self.verdict.rule is None:
            return ()
        return (
            (b"ratelimit-policy", self.plan.policy),
            (b"ratelimit", limit_header(self.verdict)),
        )


# The request that is being served, for whoever stores what it brought: no route can forget to pay.
_current: ContextVar[Admission | None] = ContextVar("admission", default=None)


def set_admission(admission: Admission | None) -> None:
    """Say which request this task serves."""
    _current.set(admission)


def charge_current(unit: Unit, count: int) -> None:
    """Have the request that is being served pay; what came in by no request pays nothing."""
    admission = _current.get()
    if admission is not None:
        admission.charge(unit, count)


class Limiter:
    """Threads  Event loop only; nothing in it blocks."""

    def __init__(self, settings: Settings, buckets: LocalBuckets | None = None) -> None:
        self._limits = settings.limits
        self._configured = {name: one.limits for name, one in settings.tenants.items()}
        # What a body declares beyond this is answered 413, and must not be owed for ever.
        self._body_max = max(
            self._limits.json_bytes, self._limits.import_bytes, self._limits.remote_write_bytes
        )
        self._buckets = buckets or LocalBuckets()
        self._plans: dict[_PlanKey, Plan] = {}
        self._running: dict[str, int] = {}

    def admit(
        self, caller: Caller, *, by_tenant: bool, is_json: bool, size: int
    ) -> Admission | None:
        """Let a request in, or raise `LimitExceededError`. None when nothing limits it."""
        plan = self.plan_for(caller, by_tenant=by_tenant, is_json=is_json)
        if plan.is_empty:
            return None
        verdict = self._buckets.admit(plan, min(size, self._body_max))
        if verdict.wait > 0:
            raise refusal(plan, verdict, caller)
        return Admission(self, plan, verdict)

    def charge(self, plan: Plan, unit: Unit, count: int) -> None:
        self._buckets.charge(plan, unit, count)

    @contextmanager
    def query(self, caller: Caller) -> Iterator[None]:
        """Count a query while it runs; `LimitExceededError` when too many do."""
        counters = self.plan_for(caller, by_tenant=True, is_json=False).concurrency
        running = self._running
        for name, scope, key, most in counters:
            if running.get(key, 0) >= most:
                raise LimitExceededError(
                    f"limits.{name} allows {SCOPE_WORDS[scope]} {most} queries at a time, and as "
                    f"many run; wait for one to end, or {_how(name, caller)}",
                    limit=f"limits.{name}",
                    scope=scope.value,
                    value=most,
                    retry_after_ms=1000,
                )
        for _, _, key, _ in counters:
            running[key] = running.get(key, 0) + 1
        try:
            yield
        finally:
            for _, _, key, _ in counters:
                running[key] -= 1
                if not running[key]:
                    del running[key]

    def plan_for(self, caller: Caller, *, by_tenant: bool, is_json: bool) -> Plan:
        principal = caller.principal
        at = (caller.tenant, principal.kind, principal.id, caller.client, by_tenant, is_json)
        plan = self._plans.get(at)
        if plan is None:
            plan = self._make_plan(caller, by_tenant, is_json)
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            self._plans[at] = plan
        return plan

    def forget_plans(self) -> None:
        """Some tenant's limits are others now."""
        self._plans.clear()

    def value_of(self, tenant: str, name: str) -> int:
        """A limit as it holds for a tenant: its own, or everybody's."""
        found = self._own(tenant, name)
        return int(getattr(self._limits, everybodys(name)) if found is None else found)

    def _make_plan(self, caller: Caller, by_tenant: bool, is_json: bool) -> Plan:
        subjects = {
            Scope.CALLER: f"{caller.principal.kind}:{caller.principal.id}",
            Scope.CLIENT: network_of_client(caller.client),
        }
        if by_tenant:
            subjects[Scope.TENANT] = str(caller.tenant)
        value = self._valuer(caller, by_tenant)
        burst = self._limits.burst / 1000
        rules = []
        for scope, subject in subjects.items():
            for unit, unit_name in _UNIT_NAMES.items():
                name = _PREFIX[scope] + unit_name
                if per_second := value(name):
                    key = self._key(caller, name, scope, subject)
                    rules.append(Rule.make(name, scope, unit, key, per_second, burst))
        if is_json and (per_second := value(_JSON)):
            key = self._key(caller, _JSON, Scope.CLIENT, subjects[Scope.CLIENT])
            rules.append(Rule.make(_JSON, Scope.CLIENT, Unit.REQUESTS, key, per_second, burst))
        concurrency = []
        for scope, subject in subjects.items():
            name = _PREFIX[scope] + "concurrent_queries"
            if most := value(name):
                name = everybodys(name)
                concurrency.append((name, scope, f"{name}:{subject}", most))
        units = {rule.unit for rule in rules}
        return Plan(
            tenant=caller.tenant,
            tag=str(caller.tenant) if by_tenant else "server",
            rules=tuple(rules),
            concurrency=tuple(concurrency),
            policy=policy_header(tuple(rules)),
            counts_samples=Unit.SAMPLES in units,
            counts_bytes=Unit.BYTES in units,
        )

    def _key(self, caller: Caller, name: str, scope: Scope, subject: str) -> str:
        """Callers and addresses count for all tenants together, save where one has its own limit."""
        if scope is not Scope.TENANT and self._own(caller.tenant_name, name) is not None:
            return f"{name}:{caller.tenant}:{subject}"
        return f"{name}:{subject}"

    def _own(self, tenant: str, name: str) -> int | None:
        own = self._configured.get(tenant)
        return None if own is None else getattr(own, name, None)

    def _valuer(self, caller: Caller, by_tenant: bool) -> Callable[[str], int]:
        if by_tenant:
            return lambda name: self.value_of(caller.tenant_name, name)
        return lambda name: int(getattr(self._limits, name))


def everybodys(name: str) -> str:
    """The setting of `LimitsSettings` that holds when a tenant has none of its own."""
    return "tenant_concurrent_queries" if name == "concurrent_queries" else name


def refusal(plan: Plan, verdict: Verdict, caller: Caller) -> LimitExceededError:
    """The error for a verdict that refused."""
    rule = verdict.rule
    assert rule is not None  # noqa: S101
    return LimitExceededError(
        f"limits.{rule.name} allows {SCOPE_WORDS[rule.scope]} {rule.per_second} "
        f"{_UNIT_WORDS[rule.unit]} a second; wait, or {_how(rule.name, caller)}",
        limit=f"limits.{rule.name}",
        scope=rule.scope.value,
        value=rule.per_second,
        retry_after_ms=max(1, int(verdict.wait * 1000)),
        headers={
            "RateLimit-Policy": plan.policy.decode(),
            "RateLimit": limit_header(verdict).decode(),
        },
    )


def _how(name: str, caller: Caller) -> str:
    return (
        f"ask an administrator to raise it: limits.{name} for everybody, "
        f"tenants.{caller.tenant_name}.limits for this tenant"
    )

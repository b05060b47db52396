"""Limits that several gateways count together in a real Redis, and what happens when it is gone."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi.testclient import TestClient

from millstream_gateway.app import create_app
from millstream_gateway.backends import redis_buckets
from millstream_gateway.backends.fake import FakeBackend
from millstream_gateway.backends.local_meta_store import MemoryMetaStore
from millstream_gateway.backends.redis_buckets import ASK_AND_PAY, COUNTER_PAY, RedisBuckets, Step
from millstream_gateway.errors import LimitExceededError
from millstream_gateway.schemas.access import ADMIN_KEY, Caller
from millstream_gateway.services import limits as limits_module
from millstream_gateway.services.limits import Limiter, Place
from millstream_gateway.settings import (
    AuthSettings,
    LimitsSettings,
    RedisSettings,
    Settings,
    StorageSettings,
    dump_settings,
)
from tests.services.process import wait_until
from tests.services.redis import Certificates, Redis

pytestmark = pytest.mark.e2e
ROOT_KEY = "ms_root_Zt5fY0b3QdW8pLr2"
ROOT = {"Authorization": f"Bearer {ROOT_KEY}"}
# Patient, for a loaded machine; what the setting is for has a test of its own.
TIMEOUT = "20s"
CALLER = Caller(ADMIN_KEY, client="192.0.2.7")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path / "redis") as service:
        yield service


@contextmanager
def gateways(url: str, count: int, *, timeout: str = TIMEOUT, **limits: Any) -> Iterator[Any]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                TestClient(
                    create_app(
                        Settings(
                            storage=StorageSettings(path=":memory:"),
                            auth=AuthSettings(admin_key=ROOT_KEY, failed_attempts_per_minute=4),
                            redis=RedisSettings(url=url, timeout=timeout),
                            limits=LimitsSettings(**limits),
                        ),
                        FakeBackend(),
                    ),
                    client=("192.0.2.7", 1234),
                )
            )
            for _ in range(count)
        ]


def write(gateway: TestClient, items: int = 1) -> Any:
    metrics = [{"name": f"m{number}", "value": 1} for number in range(items)]
    return gateway.post("/metrics", json={"metrics": metrics}, headers=ROOT)


def own_metric(gateway: TestClient, name: str) -> float:
    text = gateway.get("/metrics", headers=ROOT).text
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found, text
    return float(found[1])


async def flood(url: str, seconds: float, per_second: int) -> tuple[int, float]:
    """How many of too many requests three gateways let in, and for how long they came."""
    buckets = [RedisBuckets(RedisSettings(url=url, timeout=TIMEOUT)) for _ in range(3)]
    for one in buckets:
        await one.start()
    step = Step("r:192.0.2.7", 1 / per_second, 1 / per_second, 0.5, ASK_AND_PAY)
    admitted = 0
    began = time.monotonic()

    async def caller(one: RedisBuckets) -> None:
        nonlocal admitted
        while time.monotonic() - began < seconds:
            answer = await one.ask("7", (step,))
            admitted += answer.wait == 0

    await asyncio.gather(*(caller(one) for one in buckets for _ in range(20)))
    took = time.monotonic() - began
    for one in buckets:
        await one.stop()
    return admitted, took


def test_gateways_with_many_places_say_them_all(redis: Redis) -> None:
    async def work() -> tuple[bool, list[int]]:
        buckets = RedisBuckets(RedisSettings(url=redis.url, timeout=TIMEOUT))
        await buckets.start()
        keys = [f"c{number}" for number in range(9000)]
        buckets.pay("7", [Step(key, 1, 2e9, 0, COUNTER_PAY) for key in keys])
        await buckets.ask("7", (Step("r", 1.0, 1.0, 60.0, ASK_AND_PAY),))
        is_up = buckets.up
        counts = await buckets.counts("7", keys)
        await buckets.stop()
        return is_up, counts

    assert asyncio.run(work()) == (True, [1] * 9000)


def test_three_gateways_together_are_exact_to_one_percent(redis: Redis) -> None:
    per_second = 500
    admitted, took = asyncio.run(flood(redis.url, 4.0, per_second))
    assert admitted == pytest.approx(per_second * (took + 0.5), rel=0.01)


def test_one_request_is_one_round_trip_under_every_limit(redis: Redis) -> None:
    everything: dict[str, Any] = {
        name: 10**6 for name in LimitsSettings.model_fields if name.endswith("_per_second")
    }
    quotas: dict[str, Any] = {"requests_per_day": 10**6, "samples_per_month": 10**6}
    with gateways(redis.url, 1, **everything, **quotas) as (gateway,):
        assert gateway.get("/api/v1/labels", headers=ROOT).status_code == 200
        redis.send("CONFIG", "RESETSTAT")
        for _ in range(20):
            assert gateway.get("/api/v1/labels", headers=ROOT).status_code == 200
        calls = re.search(rb"cmdstat_evalsha:calls=(\d+)", redis.send("INFO", "commandstats"))
    assert calls is not None
    assert int(calls[1]) == 20


def test_gateways_share_buckets_debts_and_quotas(redis: Redis) -> None:
    with gateways(redis.url, 2, json_requests_per_second=1, burst="60s") as (one, two):
        codes = [write(gateway).status_code for _ in range(50) for gateway in (one, two)]
        # A token comes back each second meanwhile.
        assert 60 <= codes.count(200) <= 90
        assert codes[:60] == [200] * 60
        refused = write(two)
        assert refused.status_code == 429
        assert refused.json()["limit"] == "limits.json_requests_per_second"
        assert int(refused.headers["retry-after"]) >= 1
    redis.send("FLUSHALL")
    with gateways(redis.url, 2, samples_per_second=1) as (one, two):
        assert write(one, items=1000).status_code == 200
        wait_until("the samples are owed", 20, lambda: write(two).status_code == 429)
        assert int(write(two).headers["retry-after"]) > 500
    redis.send("FLUSHALL")
    with gateways(redis.url, 2, requests_per_day=5) as (one, two):
        codes = [write(gateway).status_code for _ in range(4) for gateway in (one, two)]
        assert codes == [200] * 5 + [429] * 3
        refused = write(one)
        assert refused.json()["limit"] == "limits.requests_per_day"
        assert 1 <= int(refused.headers["retry-after"]) <= 86_400


def test_a_quota_of_samples_is_exact_for_who_waits_for_each_answer(redis: Redis) -> None:
    with gateways(redis.url, 1, samples_per_day=5, json_requests_per_second=0) as (one,):
        codes = [write(one).status_code for _ in range(8)]
    assert codes == [200] * 5 + [429] * 3


class Held:
    """Queries of a limiter that run until they are told to end."""

    def __init__(self, url: str, **limits: Any) -> None:
        self.limiter = Limiter(
            Settings(
                redis=RedisSettings(url=url, timeout=TIMEOUT), limits=LimitsSettings(**limits)
            ),
            MemoryMetaStore(),
        )
        self.places: list[Place] = []

    async def __aenter__(self) -> Held:
        await self.limiter.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.leave(len(self.places))
        await self.limiter.stop()

    async def query(self) -> bool:
        place = self.limiter.place_of_query(CALLER)
        try:
            await self.limiter.admit(CALLER, by_tenant=True, is_json=False, size=0, place=place)
        except LimitExceededError as error:
            place.leave()
            if "allows one caller" not in error.message:
                raise
            return False
        self.places.append(place)
        return True

    def leave(self, count: int) -> None:
        for _ in range(count):
            self.places.pop().leave()


async def comes_true(condition: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - what it waits for is in Redis
            await asyncio.sleep(0.01)


def test_queries_at_a_time_are_counted_over_all_gateways_exactly(redis: Redis) -> None:
    async def scene() -> None:
        async with (
            Held(redis.url, caller_concurrent_queries=10) as one,
            Held(redis.url, caller_concurrent_queries=10) as two,
        ):
            # Many at once on both: never more than ten of them, and ten in the end.
            asked = [each.query() for _ in range(20) for each in (one, two)]
            assert sum(await asyncio.gather(*asked)) <= 10
            while await one.query():
                pass
            assert len(one.places) + len(two.places) == 10
            assert not await two.query()
            one.leave(len(one.places) and 1)
            if not one.places:
                two.leave(1)
            await comes_true(two.query)
            assert len(one.places) + len(two.places) == 10
            for each in (one, two):
                each.leave(len(each.places))
            for _ in range(10):
                await comes_true(two.query)
            assert not await one.query()

    asyncio.run(scene())


def test_places_of_a_killed_gateway_come_back_and_those_of_a_living_one_stay(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_buckets, "LEASE_SECONDS", 1.5)
    monkeypatch.setattr(limits_module, "LEASE_SECONDS", 1.5)
    script = redis_buckets._TEMPLATE.replace("LEASE", "1500000")
    monkeypatch.setattr(redis_buckets, "_SCRIPT", script)
    monkeypatch.setattr(redis_buckets, "_SHA", hashlib.sha1(script.encode()).hexdigest())

    async def scene() -> None:
        killed = Held(redis.url, caller_concurrent_queries=3)
        await killed.__aenter__()
        async with (
            Held(redis.url, caller_concurrent_queries=3) as living,
            Held(redis.url, caller_concurrent_queries=3) as asking,
        ):
            assert await killed.query()
            assert await living.query()
            assert await living.query()
            assert not await asking.query()
            # It says nothing any more, and does not say goodbye.
            saying = killed.limiter._saying
            assert saying is not None
            saying.cancel()
            await comes_true(asking.query)
            began = time.monotonic()
            while time.monotonic() - began < 4.0:
                assert not await asking.query(), "what lives says again what it has"
                await asyncio.sleep(0.1)
            living.leave(2)
            await comes_true(asking.query)
        assert killed.limiter.shared is not None
        await killed.limiter.shared.stop()

    asyncio.run(scene())


def test_a_query_is_one_round_trip_with_its_place(redis: Redis) -> None:
    limits: dict[str, Any] = {
        "requests_per_second": 10**6,
        "caller_concurrent_queries": 100,
        "tenant_concurrent_queries": 100,
    }
    with gateways(redis.url, 1, **limits) as (gateway,):
        for _ in range(3):
            assert gateway.get("/api/v1/labels", headers=ROOT).status_code == 200
        redis.send("CONFIG", "RESETSTAT")
        for _ in range(20):
            assert gateway.get("/api/v1/labels", headers=ROOT).status_code == 200
        calls = re.search(rb"cmdstat_evalsha:calls=(\d+)", redis.send("INFO", "commandstats"))
    assert calls is not None
    # That it is over is said afterwards, and nobody waits for it.
    assert 20 <= int(calls[1]) <= 40


def test_without_redis_places_count_here_and_again_there_when_it_is_back(
    redis: Redis, tmp_path: Path
) -> None:
    async def scene() -> None:
        async with Held(redis.url, caller_concurrent_queries=2) as one:
            assert await one.query()
            redis.kill()
            assert await one.query()
            assert not await one.query()
            one.leave(1)
            assert await one.query()
            with Redis(tmp_path / "again", port=redis.port):
                shared = one.limiter.shared
                assert shared is not None

                async def is_up() -> bool:
                    return shared.up

                await comes_true(is_up, 30)
                assert not await one.query(), "what began meanwhile counts"

    asyncio.run(scene())


def test_failed_sign_ins_count_together(redis: Redis) -> None:
    bad = {"Authorization": "Bearer ms_nobody_wrong"}
    with gateways(redis.url, 2) as (one, two):
        for gateway in (one, two, one, two):
            assert gateway.get("/api/v1/labels", headers=bad).status_code == 401

        def refused_everywhere() -> bool:
            answers = [gateway.get("/api/v1/labels", headers=bad) for gateway in (one, two)]
            return [answer.status_code for answer in answers] == [429, 429]

        wait_until("both refuse", 20, refused_everywhere)


def test_without_redis_data_goes_on_and_nobody_new_signs_in_until_it_is_back(
    redis: Redis, tmp_path: Path
) -> None:
    with gateways(redis.url, 1, timeout="1s", json_requests_per_second=1, burst="60s") as (one,):
        assert write(one).status_code == 200
        assert own_metric(one, "millstream_limits_redis_up") == 1
        body = {"name": "fresh", "role": "user", "tenants": ["default"]}
        fresh = one.post("/v1/admin/keys", json=body, headers=ROOT).json()["key"]
        redis.kill()
        # Counted here now, and not without end.
        codes = [write(one).status_code for _ in range(70)]
        assert codes[:55] == [200] * 55
        assert 429 in codes
        assert own_metric(one, "millstream_limits_redis_up") == 0
        assert own_metric(one, "millstream_limits_fallbacks_total") >= 70
        for _ in range(10):
            refused = one.get("/api/v1/labels", headers={"X-API-Key": "ms_nobody_wrong"})
            assert refused.status_code == 503
            assert "nobody can sign in" in refused.json()["error"]
        grant = {"grant_type": "client_credentials", "client_secret": fresh}
        assert one.post("/v1/auth/token", data=grant).status_code == 503
        # Who was let in before is let in again, however the key is sent.
        known = {**grant, "client_secret": ROOT_KEY}
        assert one.post("/v1/auth/token", data=known).status_code == 200
        with Redis(tmp_path / "again", port=redis.port):
            wait_until(
                "Redis is used again",
                30,
                lambda: own_metric(one, "millstream_limits_redis_up") == 1,
            )
            assert write(one).status_code == 200
            assert one.post("/v1/auth/token", data=grant).status_code == 200
            bad = one.get("/api/v1/labels", headers={"X-API-Key": "ms_nobody_wrong"})
            assert bad.status_code == 401


def test_a_gateway_starts_without_redis_and_finds_it_later(tmp_path: Path, redis: Redis) -> None:
    redis.kill()
    with gateways(redis.url, 1, timeout="1s") as (one,):
        # Nobody was signed in before.
        assert write(one).status_code == 503
        assert one.get("/health").status_code == 200
        with Redis(tmp_path / "late", port=redis.port):
            wait_until("the key is let in", 30, lambda: write(one).status_code == 200)


def certificates(folder: Path) -> Certificates:
    """An authority of its own, and what it signed for 127.0.0.1."""
    now = datetime.now(UTC)
    signer, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's authority")])

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> Any:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(root)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
        )

    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    authority = (
        builder(root, signer.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    own = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    server = (
        builder(name, key.public_key())
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(own, critical=False)
        .sign(signer, hashes.SHA256())
    )
    folder.mkdir()
    made = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    made.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    made.certificate.write_bytes(server.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return made


def test_redis_with_tls_and_a_password(tmp_path: Path) -> None:
    secret = "only-the-gateways-know"
    files = certificates(tmp_path / "certificates")
    with Redis(tmp_path / "redis", password=secret, tls=files) as redis:
        with gateways(redis.url, 2, json_requests_per_second=1, burst="2s") as (one, two):
            codes = [write(gateway).status_code for _ in range(10) for gateway in (one, two)]
            assert own_metric(one, "millstream_limits_redis_up") == 1
            assert codes[:2] == [200, 200]
            assert 429 in codes
        wrong = redis.url.replace(secret, "guessed")
        with gateways(wrong, 1) as (one,):
            assert write(one).status_code == 503
    shown = dump_settings(Settings(redis=RedisSettings(url=redis.url)))
    assert secret not in shown

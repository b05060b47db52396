"""Open on loopback without credentials, closed with them, and slow to those who guess."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from millstream.errors import FailedPreconditionError
from millstream_gateway.backends.local_meta_store import FILE_NAME
from millstream_gateway.schemas.access import ANONYMOUS, Caller
from millstream_gateway.server import check_exposure
from millstream_gateway.services.access import AccessControl
from millstream_gateway.services.audit import AuditFile, AuditLog, AuditMemory
from millstream_gateway.services.authentication import (
    Credentials,
    FailedAttempts,
)
from millstream_gateway.settings import Settings, dump_settings, load_settings
from tests.gateway.access_support import (
    ROOT,
    ROOT_KEY,
    Site,
    bearer,
    settings_in,
    site_in,
)
from tests.gateway.conftest import wait_until


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[Site]:
    with site_in(tmp_path, admin_key=None) as made:
        yield made


def exposed(folder: Path, host: str, **auth: object) -> Settings:
    settings = settings_in(folder, **auth)
    return settings.model_copy(update={"server": settings.server.model_copy(update={"host": host})})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_without_credentials_only_loopback_is_listened_on(tmp_path: Path, host: str) -> None:
    with pytest.raises(FailedPreconditionError, match="not a loopback address"):
        check_exposure(exposed(tmp_path, host))
    check_exposure(exposed(tmp_path, "127.0.0.1"))
    check_exposure(exposed(tmp_path, host, admin_key=ROOT_KEY))
    assert not (tmp_path / "data").exists()


def test_with_a_key_any_address_is_listened_on_also_when_it_is_revoked(tmp_path: Path) -> None:
    with site_in(tmp_path) as site:
        issued = site.issue()
        site.client.delete(f"/v1/admin/keys/{issued['id']}", headers=ROOT)
    check_exposure(exposed(tmp_path, "0.0.0.0"))
    with site_in(tmp_path, admin_key=None) as site:
        assert site.get("/api/v1/labels") == 401


def test_a_damaged_store_opens_no_server(tmp_path: Path) -> None:
    with site_in(tmp_path) as site:
        site.issue()
    file = tmp_path / "data" / "meta" / FILE_NAME
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(Exception, match="damaged"):
        check_exposure(exposed(tmp_path, "127.0.0.1"))


def test_an_open_server_lets_everybody_read_and_write_but_not_administer(open_site: Site) -> None:
    site = open_site
    assert site.push({}, "m") == 200
    assert site.names({}) == ["m"]
    assert site.names(bearer("whatever")) == ["m"]
    assert site.get("/metrics") == 200
    assert site.push({"X-Scope-OrgID": "a"}, "n") == 200
    assert site.names({"X-Scope-OrgID": "a"}) == ["n"]
    body = {"name": "k", "role": "admin"}
    refused = site.client.post("/v1/admin/keys", json=body)
    assert refused.status_code == 403
    assert "auth.admin_key" in refused.json()["detail"]
    assert site.client.get("/v1/auth/me").json()["kind"] == "anonymous"


def test_the_first_key_closes_a_server_that_runs(open_site: Site) -> None:
    site = open_site
    assert site.get("/api/v1/labels") == 200
    other = AccessControl(settings_in(site.folder))
    other.open()
    from millstream_gateway.schemas.access import ADMIN_KEY, Role
    from millstream_gateway.schemas.keys import KeyRequest

    request = KeyRequest("first", Role.ADMIN, frozenset({"*"}))
    _, key = other.keys.create(Caller(ADMIN_KEY), request)
    other.close()
    wait_until(lambda: site.get("/api/v1/labels") == 401)
    assert site.get("/api/v1/labels", bearer(key)) == 200


def test_a_client_that_guesses_is_slowed_and_one_that_knows_is_not(tmp_path: Path) -> None:
    with site_in(tmp_path, failed_attempts_per_minute=5) as site:
        key = site.issue()["key"]
        assert site.get("/api/v1/labels", bearer(key)) == 200
        statuses = [site.get("/api/v1/labels", bearer(f"ms_x_{i}")) for i in range(8)]
        assert statuses == [401] * 5 + [429] * 3
        fresh = site.client.get("/api/v1/labels", headers={"X-API-Key": key})
        assert fresh.status_code == 429
        assert 1 <= int(fresh.headers["retry-after"]) <= 12
        assert "auth.failed_attempts_per_minute" in fresh.json()["error"]
        write = site.client.post("/api/v1/write", headers=bearer("ms_x_y"))
        assert write.status_code == 429
        # Who was let in a moment ago is not locked out by a neighbour, and asking without any
        # credentials is no attempt.
        assert site.get("/api/v1/labels", bearer(key)) == 200
        assert [site.get("/health") for _ in range(9)] == [200] * 9


def test_asking_without_credentials_is_no_failed_attempt(tmp_path: Path) -> None:
    with site_in(tmp_path, failed_attempts_per_minute=1) as site:
        assert [site.get("/api/v1/labels") for _ in range(9)] == [401] * 9
        assert site.get("/api/v1/labels", ROOT) == 200


def test_failures_are_forgiven_with_time_and_counted_by_address() -> None:
    failed, now = FailedAttempts(per_minute=6), 1_000_000
    for _ in range(6):
        assert failed.wait_ms("192.0.2.1", now) == 0
        failed.count("192.0.2.1", now)
    assert failed.wait_ms("192.0.2.1", now) == 10_000
    assert failed.wait_ms("192.0.2.2", now) == 0
    assert failed.wait_ms("192.0.2.1", now + 9_999) == 1
    assert failed.wait_ms("192.0.2.1", now + 10_000) == 0
    failed.count("192.0.2.1", now + 10_000)
    assert failed.wait_ms("192.0.2.1", now + 10_000) == 10_000
    for number in range(6):
        failed.count(f"2001:db8:0:1::{number:x}", now)
    assert failed.wait_ms("2001:db8:0:1:ffff::9", now) == 10_000
    assert failed.wait_ms("2001:db8:0:2::1", now) == 0


def test_addresses_are_remembered_up_to_a_bound() -> None:
    failed = FailedAttempts(per_minute=1)
    for number in range(12_000):
        failed.count(f"a{number}", 0)
    assert len(failed._debts) == 10_000
    assert failed.wait_ms("a11999", 0) > 0
    assert failed.wait_ms("a0", 0) == 0


def test_remembered_credentials_are_bounded(tmp_path: Path) -> None:
    with site_in(tmp_path) as site:
        authenticator = site.services.access.authenticator
        for number in range(10_050):
            spaces = b" " * (number % 101) + b"\t" * (number // 101)
            credentials = Credentials((b"Bearer " + spaces + ROOT_KEY.encode(),))
            assert authenticator.authenticate(credentials, "c").kind == "admin_key"
        assert len(authenticator._remembered) <= 10_000


def test_the_admin_key_is_shown_nowhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    environ = {"MILLSTREAM_AUTH__ADMIN_KEY": ROOT_KEY}
    settings = load_settings(None, {"storage": {"path": str(tmp_path)}}, environ)
    assert settings.auth.admin_key is not None
    assert settings.auth.admin_key.get_secret_value() == ROOT_KEY
    assert ROOT_KEY not in dump_settings(settings) + repr(settings) + str(settings)
    with site_in(tmp_path) as site:
        shown = site.client.get("/v1/admin/keys", headers=ROOT).text
        site.get("/api/v1/labels", bearer(ROOT_KEY + "x"))
        site.client.post("/v1/admin/keys", json={"name": ROOT_KEY, "x": ROOT_KEY}, headers=ROOT)
    files = "".join(f.read_text() for f in (tmp_path / "data").rglob("*") if f.is_file())
    printed = capfd.readouterr()
    assert ROOT_KEY not in shown + files + printed.out + printed.err


def audit_lines(site: Site) -> list[dict[str, object]]:
    text = (site.folder / "data" / "meta" / "audit.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_the_audit_log_says_who_did_what(tmp_path: Path) -> None:
    with site_in(tmp_path) as site:
        issued = site.issue(name="grafana", role="readonly", tenants=["a"])
        path = f"/v1/admin/keys/{issued['id']}"
        rotated = site.client.post(f"{path}/rotate", headers=ROOT).json()
        site.push(bearer(rotated["key"]), "m")
        site.get("/api/v1/labels", bearer("ms_nobody_x\r\n".strip()))
        site.client.delete(path, headers=ROOT)
    lines = audit_lines(site)
    found = sorted((line["action"], line["outcome"]) for line in lines)
    assert found == [
        ("http.read", "unauthenticated"),
        ("http.write", "forbidden"),
        ("key.create", "ok"),
        ("key.revoke", "ok"),
        ("key.rotate", "ok"),
        ("tenant.create", "ok"),
    ]
    by_action = {line["action"]: line for line in lines}
    assert by_action["key.create"]["key"] == issued["id"]
    assert by_action["key.create"]["actor"]["kind"] == "admin_key"  # type: ignore[index]
    assert by_action["http.write"]["actor"]["id"] == issued["id"]  # type: ignore[index]
    assert by_action["http.write"]["path"] == "/metrics"
    file = site.folder / "data" / "meta" / "audit.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for key in (issued["key"], rotated["key"], ROOT_KEY):
        assert key.rpartition("_")[2] not in file.read_text()


def test_no_value_forges_a_line_of_the_audit_log(tmp_path: Path) -> None:
    log = AuditLog(AuditFile(tmp_path / "audit.jsonl"))
    evil = 'x\r\n{"action":"key.create"}\u2028\x85\0'
    log.record(Caller(ANONYMOUS, client=evil), "a", "ok", path=evil, long="y" * 5000)
    log.close()
    text = (tmp_path / "audit.jsonl").read_bytes()
    assert text.count(b"\n") == 1
    assert b"\r" not in text
    entry = json.loads(text)
    assert entry["path"] == evil
    assert len(entry["long"]) == 300


def test_the_audit_log_is_appended_to_and_may_be_moved_away(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for number in range(2):
        log = AuditLog(AuditFile(path))
        log.record(Caller(ANONYMOUS), "a", "ok", number=number)
        log.close()
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [0, 1]
    path.rename(tmp_path / "old")
    log.record(Caller(ANONYMOUS), "a", "ok", number=2)
    assert json.loads(path.read_text())["number"] == 2


def test_a_flood_of_refusals_is_counted_and_not_kept() -> None:
    sink = AuditMemory()
    log = AuditLog(sink)
    log._waiting = 1000
    for _ in range(7):
        log.note(Caller(ANONYMOUS), "http.read", "forbidden")
    log._waiting = 0
    log.note(Caller(ANONYMOUS), "http.read", "forbidden")
    log.close()
    assert [json.loads(line)["dropped_before"] for line in sink.lines] == [7]


def test_a_database_in_memory_keeps_its_keys_there(tmp_path: Path) -> None:
    settings = settings_in(tmp_path).model_copy(
        update={"storage": settings_in(tmp_path).storage.model_copy(update={"path": ":memory:"})}
    )
    control = AccessControl(settings)
    control.open()
    control.tenants.ensure(Caller(ANONYMOUS), "a")
    assert control.tenants.id_of("a") == 1
    control.close()
    assert list(tmp_path.iterdir()) == []

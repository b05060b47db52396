"""People with a password: made, signed in, shut out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.gateway.access_support import ROOT, Site, bearer, site_in

PATH = "/api/v1/labels"
PASSWORD = "correct horse battery"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_in(tmp_path) as made:
        yield made


def make(site: Site, name: str = "ann", headers: Any = ROOT, **more: Any) -> httpx2.Response:
    body = {"name": name, "password": PASSWORD, "role": "user", **more}
    return site.client.post("/v1/admin/users", json=body, headers=headers)


def sign_in(site: Site, name: str = "ann", password: str = PASSWORD) -> httpx2.Response:
    body = {"grant_type": "password", "username": name, "password": password}
    return site.client.post("/v1/auth/token", data=body)


def test_a_user_signs_in_by_a_password_and_is_what_they_were_made(site: Site) -> None:
    made = make(site, tenants=["shop"], role="readonly")
    assert made.status_code == 201
    assert "password" not in made.text.replace('"changed_ms"', "")
    token = sign_in(site).json()["access_token"]
    me = site.client.get("/v1/auth/me", headers=bearer(token)).json()
    assert (me["kind"], me["id"], me["name"]) == ("user", "local#ann", "ann")
    assert (me["role"], me["tenants"], me["verbs"]) == ("readonly", ["shop"], ["read"])
    assert site.get(PATH, bearer(token)) == 200
    assert site.push(bearer(token), "m") == 403


def test_wrong_names_and_wrong_passwords_look_alike(site: Site) -> None:
    make(site)
    answers = [sign_in(site, "ann", "x" * 12), sign_in(site, "nobody"), sign_in(site, "../x")]
    answers.append(sign_in(site, "ann", "x" * 5000))
    assert {(one.status_code, one.text) for one in answers} == {(400, answers[0].text)}
    assert answers[0].json()["error"] == "invalid_grant"
    assert sign_in(site, "", "x").status_code == 400
    half = {"grant_type": "password", "username": "ann", "password": "\ud800"}
    text = json.dumps(half).encode()
    headers = {"Content-Type": "application/json"}
    assert site.client.post("/v1/auth/token", content=text, headers=headers).status_code == 400


@pytest.mark.parametrize("change", ["new password", "disabled", "deleted"])
def test_what_ends_a_user_ends_their_sessions(site: Site, change: str) -> None:
    make(site)
    got = sign_in(site).json()
    assert site.get(PATH, bearer(got["access_token"])) == 200
    path = "/v1/admin/users/ann"
    if change == "deleted":
        assert site.client.delete(path, headers=ROOT).status_code == 200
    else:
        body = {"password": "another good one"} if change == "new password" else {"disabled": True}
        assert site.client.patch(path, json=body, headers=ROOT).status_code == 200
    assert site.get(PATH, bearer(got["access_token"])) == 401
    refresh = site.client.post("/v1/auth/refresh", data={"refresh_token": got["refresh_token"]})
    assert refresh.status_code == 401
    assert sign_in(site).status_code == 400
    if change == "new password":
        assert sign_in(site, password="another good one").status_code == 200
    elif change == "disabled":
        site.client.patch(path, json={"disabled": False}, headers=ROOT)
        assert sign_in(site).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"password": "short"}, 400),
        ({"password": "x" * 300}, 400),
        ({"name": "../x"}, 400),
        ({"name": "an n"}, 400),
        ({"tenants": ["*", "a"]}, 400),
        ({"tenants": ["a/b"]}, 400),
        ({"role": "readonly", "verbs": ["write"]}, 400),
        ({"role": "root"}, 400),
        ({"more": 1}, 400),
    ],
)
def test_users_that_are_not_made(site: Site, body: dict[str, Any], status: int) -> None:
    assert make(site, **body).status_code == status
    assert site.client.get("/v1/admin/users", headers=ROOT).json() == {"users": []}


def test_a_name_is_given_once(site: Site) -> None:
    assert make(site).status_code == 201
    assert make(site).status_code == 409


def test_administrators_make_and_see_users_of_their_tenants_only(site: Site) -> None:
    admin = site.headers(role="admin", tenants=["a"])
    assert make(site, "mine", admin, tenants=["a"]).status_code == 201
    assert make(site, "other", tenants=["b"]).status_code == 201
    assert make(site, "x", admin, tenants=["b"]).status_code == 403
    assert make(site, "x", admin, tenants=["*"]).status_code == 403
    assert make(site, "x", admin, tenants=["a"], verbs=["monitor"]).status_code == 403
    shown = site.client.get("/v1/admin/users", headers=admin).json()["users"]
    assert [one["name"] for one in shown] == ["mine"]
    for method in ("GET", "PATCH", "DELETE"):
        answer = site.client.request(
            method, "/v1/admin/users/other", headers=admin, json={"password": "taken over now"}
        )
        assert answer.status_code == 404
    assert sign_in(site, "other").status_code == 200
    # Nor does anybody become what they are not by a password that they set.
    strong = make(site, "strong", tenants=["a"], verbs=["read", "write", "monitor"])
    assert strong.status_code == 201
    taken = site.client.patch(
        "/v1/admin/users/strong", headers=admin, json={"password": "taken over now"}
    )
    assert taken.status_code == 403


def hold_time(site: Site, patch: pytest.MonkeyPatch) -> None:
    """What failed is forgiven as time goes by, and a busy machine takes long to check a password."""
    now_ms = time.time_ns() // 1_000_000
    patch.setattr(site.services.access.authenticator, "_clock", lambda: now_ms)


def test_guessing_is_slowed_by_address_and_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site_in(tmp_path, failed_attempts_per_minute=3) as site:
        make(site)
        assert sign_in(site).status_code == 200
        hold_time(site, monkeypatch)
        statuses = [sign_in(site, "ann", "wrong password").status_code for _ in range(4)]
        assert statuses == [400] * 3 + [429]
        authenticator = site.services.access.authenticator
        authenticator._failed._debts.pop("testclient")
        # From another address the name is still held up, and others are not.
        assert sign_in(site).status_code == 429
        assert sign_in(site, "ben").status_code == 400


def test_a_user_closes_an_open_server(tmp_path: Path) -> None:
    with site_in(tmp_path) as site:
        make(site)
    with site_in(tmp_path, admin_key=None) as site:
        assert site.get(PATH) == 401
        assert site.get(PATH, bearer(sign_in(site).json()["access_token"])) == 200


def test_no_password_is_stored_or_written_down(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with site_in(tmp_path) as site:
        make(site)
        make(site, "ben", more=PASSWORD)
        sign_in(site)
        shown = sign_in(site, "ann", PASSWORD + "x").text
        shown += make(site, PASSWORD).text
    files = "".join(
        path.read_bytes().decode("latin-1")
        for path in (tmp_path / "data").rglob("*")
        if path.is_file()
    )
    printed = capfd.readouterr()
    assert "$argon2id$" in files
    assert PASSWORD not in files + shown + printed.out + printed.err
    lines = (tmp_path / "data" / "meta" / "audit.jsonl").read_text().splitlines()
    found = [(line["action"], line["outcome"]) for line in map(json.loads, lines)]
    assert ("user.create", "ok") in found
    assert ("session.begin", "ok") in found
    assert ("session.begin", "unauthenticated") in found


NEW = "staple in the rain"


def change(site: Site, token: str, old: str = PASSWORD, new: str = NEW) -> httpx2.Response:
    body = {"old_password": old, "new_password": new}
    return site.client.post("/v1/auth/password", data=body, headers=bearer(token))


def test_users_change_their_own_password_and_only_this_session_goes_on(site: Site) -> None:
    make(site)
    mine, other = sign_in(site).json(), sign_in(site).json()
    answer = change(site, mine["access_token"])
    assert (answer.status_code, answer.content) == (204, b"")
    assert site.get(PATH, bearer(mine["access_token"])) == 200
    assert site.get(PATH, bearer(other["access_token"])) == 401
    for refresh, status in ((mine["refresh_token"], 200), (other["refresh_token"], 401)):
        renewed = site.client.post("/v1/auth/refresh", data={"refresh_token": refresh})
        assert renewed.status_code == status
    assert sign_in(site).status_code == 400
    assert sign_in(site, password=NEW).status_code == 200
    site.services.access.audit.close()
    lines = (site.folder / "data/meta/audit.jsonl").read_text()
    entry = next(
        one for one in map(json.loads, lines.splitlines()) if one["action"] == "user.password"
    )
    assert (entry["outcome"], entry["user"], entry["sessions_ended"]) == ("ok", "ann", 1)
    assert entry["actor"]["id"] == "local#ann"
    assert PASSWORD not in lines
    assert NEW not in lines


def test_another_users_sessions_are_not_touched(site: Site) -> None:
    make(site)
    make(site, "bob")
    bob = sign_in(site, "bob").json()["access_token"]
    assert change(site, sign_in(site).json()["access_token"]).status_code == 204
    assert site.get(PATH, bearer(bob)) == 200


def test_a_wrong_old_password_is_refused_and_counts_as_a_failed_sign_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site_in(tmp_path, failed_attempts_per_minute=3) as site:
        make(site)
        token = sign_in(site).json()["access_token"]
        hold_time(site, monkeypatch)
        for _ in range(3):
            assert change(site, token, old="not the right one").status_code == 403
        limited = change(site, token)
        assert limited.status_code == 429
        assert int(limited.headers["Retry-After"]) >= 1
        assert sign_in(site).status_code == 429
        assert site.get(PATH, bearer(token)) == 200, "the session itself is no guess"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"old_password": PASSWORD},
        {"new_password": NEW},
        {"old_password": PASSWORD, "new_password": "short"},
        {"old_password": PASSWORD, "new_password": "x" * 201},
        {"old_password": PASSWORD, "new_password": PASSWORD},
        {"old_password": PASSWORD, "new_password": NEW, "username": "bob"},
        {"old_password": PASSWORD, "new_password": ["x" * 12]},
    ],
)
def test_what_is_no_change_of_a_password_changes_nothing(site: Site, body: dict[str, Any]) -> None:
    make(site)
    token = sign_in(site).json()["access_token"]
    answer = site.client.post("/v1/auth/password", json=body, headers=bearer(token))
    assert answer.status_code == 400, answer.text
    assert sign_in(site).status_code == 200


def test_only_users_with_a_password_here_have_one_to_change(site: Site) -> None:
    make(site)
    key = site.issue()["key"]
    by_key = site.client.post(
        "/v1/auth/token", data={"grant_type": "client_credentials", "client_secret": key}
    ).json()["access_token"]
    for token in (key, by_key):
        assert change(site, token).status_code == 403
    body = {"old_password": PASSWORD, "new_password": NEW}
    assert site.client.post("/v1/auth/password", data=body, headers=ROOT).status_code == 403
    assert site.client.post("/v1/auth/password", data=body).status_code == 401


def test_of_two_changes_at_once_one_wins_and_the_other_is_told(site: Site) -> None:
    make(site)
    first, second = (sign_in(site).json()["access_token"] for _ in range(2))
    assert change(site, first).status_code == 204
    assert change(site, second, new="another new password").status_code == 401
    assert sign_in(site, password=NEW).status_code == 200

"""Signing in at a provider that tells the truth, and at one that does not."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from millstream_gateway.services.sign_in import safe_return
from tests.gateway.access_support import ROOT, Site, bearer, site_in
from tests.gateway.token_support import Json, Signer, raw_token
from tests.services.forging_provider import CLIENT_ID, CLIENT_SECRET, Provider, forging_provider

HOST = {"Host": "127.0.0.1:8080"}
BASE = "http://127.0.0.1:8080"
STRANGER = Signer("RS256", "p1")


@pytest.fixture
def provider() -> Iterator[Provider]:
    with forging_provider() as made:
        yield made


@contextmanager
def site_with(folder: Path, provider: Provider, **more: Any) -> Iterator[Site]:
    github = provider.settings(
        api_url=provider.url, role_claim="orgs", roles={"millstream": "user"}
    )
    providers = {"oidc": provider.settings(), "github": github}
    with site_in(folder, **{"providers": providers, "insecure_loopback": True, **more}) as site:
        site.client.base_url = httpx2.URL(BASE)
        yield site


@pytest.fixture
def site(tmp_path: Path, provider: Provider) -> Iterator[Site]:
    with site_with(tmp_path, provider) as made:
        yield made


def at_provider(url: str) -> str:
    """Follows the browser to the provider, and says where it is sent back to."""
    answer = httpx2.get(url, follow_redirects=False, trust_env=False)
    assert answer.status_code == 302, answer.text
    return str(answer.headers["location"])


def begin(site: Site, name: str = "oidc", return_to: str = "/") -> httpx2.Response:
    return site.client.get(
        f"/v1/auth/{name}/login", params={"return_to": return_to}, follow_redirects=False
    )


def come_back(site: Site, url: str) -> httpx2.Response:
    assert url.startswith(f"{BASE}/v1/auth/")
    return site.client.get(url, follow_redirects=False)


def sign_in(site: Site, name: str = "oidc", return_to: str = "/") -> httpx2.Response:
    return come_back(site, at_provider(begin(site, name, return_to).headers["location"]))


def access_token(site: Site) -> str:
    answer = site.client.post("/v1/auth/refresh")
    assert answer.status_code == 200, answer.text
    assert "refresh_token" not in answer.json()
    token: str = answer.json()["access_token"]
    return token


def cookies_of(answer: httpx2.Response) -> dict[str, str]:
    found = answer.headers.get_list("set-cookie")
    return {line.partition("=")[0]: line for line in found}


def test_the_page_learns_how_one_can_sign_in(site: Site) -> None:
    assert site.client.get("/v1/auth/providers").json() == {
        "providers": [
            {"name": "github", "login": "v1/auth/github/login"},
            {"name": "oidc", "login": "v1/auth/oidc/login"},
        ],
        "passwords": False,
    }
    assert begin(site, "okta").status_code == 404
    assert begin(site, "x" * 3000).status_code == 404


def test_who_signs_in_gets_what_the_configuration_says(site: Site, provider: Provider) -> None:
    answer = sign_in(site, return_to="/?q=up")
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"] == f"{BASE}/?q=up"
    me = site.client.get("/v1/auth/me", headers=bearer(access_token(site))).json()
    assert (me["kind"], me["id"], me["name"]) == ("user", f"{provider.url}#ann", "Ann")
    assert (me["role"], me["tenants"]) == ("admin", ["default"])


def test_what_the_browser_is_sent_with(site: Site, provider: Provider) -> None:
    answer = begin(site)
    url = urllib.parse.urlsplit(answer.headers["location"])
    query = dict(urllib.parse.parse_qsl(url.query))
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{provider.url}/authorize"
    assert query["response_type"] == "code"
    assert query["client_id"] == CLIENT_ID
    assert query["redirect_uri"] == f"{BASE}/v1/auth/oidc/callback"
    assert query["code_challenge_method"] == "S256"
    assert query["scope"] == "openid profile email"
    assert len(query["state"]) >= 43
    assert len(query["nonce"]) >= 43
    assert len(query["code_challenge"]) == 43
    cookie = cookies_of(answer)["millstream_sign_in"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/v1/auth/oidc" in cookie
    for secret in (query["state"], query["nonce"], CLIENT_SECRET):
        assert secret not in cookie
    assert CLIENT_SECRET not in answer.headers["location"]
    again = dict(
        urllib.parse.parse_qsl(urllib.parse.urlsplit(begin(site).headers["location"]).query)
    )
    for name in ("state", "nonce", "code_challenge"):
        assert again[name] != query[name]


def test_the_session_is_in_a_cookie_that_no_script_and_no_other_site_can_use(site: Site) -> None:
    answer = sign_in(site)
    cookie = cookies_of(answer)["millstream_session"]
    for word in ("HttpOnly", "SameSite=strict", "Path=/v1/auth"):
        assert word in cookie
    assert cookies_of(answer)["millstream_sign_in"].startswith('millstream_sign_in=""')
    assert "msr_" not in answer.headers["location"]
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://example.org"},
        {"Origin": "null"},
    ):
        for path in ("refresh", "logout"):
            assert site.client.post(f"/v1/auth/{path}", headers=headers).status_code == 403
    # The cookie alone opens nothing else.
    assert site.get("/api/v1/labels") == 401
    fine = {"Origin": BASE, "Sec-Fetch-Site": "same-origin"}
    assert site.client.post("/v1/auth/refresh", headers=fine).status_code == 200


def test_behind_tls_cookies_are_secure(tmp_path: Path, provider: Provider) -> None:
    url = "https://metrics.example.org/millstream"
    with site_with(tmp_path, provider, public_url=url) as site:
        answer = begin(site)
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(answer.headers["location"]).query)
        assert query["redirect_uri"] == [f"{url}/v1/auth/oidc/callback"]
        cookie = cookies_of(answer)["millstream_sign_in"]
        assert "Secure" in cookie
        assert "Path=/millstream/v1/auth/oidc" in cookie


def test_the_cookie_turns_with_every_use_and_ends_with_signing_out(site: Site) -> None:
    sign_in(site)
    old = site.client.cookies["millstream_session"]
    token = access_token(site)
    assert site.client.cookies["millstream_session"] != old
    assert site.client.post("/v1/auth/logout").status_code == 204
    assert "millstream_session" not in site.client.cookies
    assert site.get("/v1/auth/me", bearer(token)) == 401
    assert site.client.post("/v1/auth/refresh").status_code == 400


def test_a_stolen_cookie_ends_the_session(site: Site) -> None:
    sign_in(site)
    old = site.client.cookies["millstream_session"]
    token = access_token(site)
    site.client.cookies.clear()
    thief = {"Cookie": f"millstream_session={old}"}
    refused = site.client.post("/v1/auth/refresh", headers=thief)
    assert refused.status_code == 401
    assert 'millstream_session=""' in cookies_of(refused)["millstream_session"]
    assert site.get("/v1/auth/me", bearer(token)) == 401


def test_a_session_ends_with_its_provider_in_the_settings(
    tmp_path: Path, provider: Provider
) -> None:
    with site_with(tmp_path, provider) as site:
        sign_in(site)
        token = access_token(site)
        assert site.get("/v1/auth/me", bearer(token)) == 200
    with site_in(tmp_path) as without:
        assert without.get("/v1/auth/me", bearer(token)) == 401


def test_an_administrator_revokes_whom_a_provider_let_in(site: Site, provider: Provider) -> None:
    sign_in(site)
    token = access_token(site)
    body = {"issuer": provider.url, "subject": "ann"}
    ended = site.client.post("/v1/admin/revocations", json=body, headers=ROOT)
    assert ended.json() == {"sessions_ended": 1}
    assert site.get("/v1/auth/me", bearer(token)) == 401


@pytest.mark.parametrize(
    "place",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/?q=\\",
        "/\t/evil.example",
        "javascript:alert(1)",
        "/v1/auth/oidc/login",
        "/?" + "x" * 3000,
        "/?é",
        "",
    ],
)
def test_nobody_is_sent_anywhere_else_afterwards(site: Site, place: str) -> None:
    assert safe_return(place) == "/"
    assert sign_in(site, return_to=place).headers["location"] == f"{BASE}/"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1@evil.example", "127.0.0.1:8080/x", ""])
def test_a_host_header_cannot_choose_where_codes_go(site: Site, host: str) -> None:
    answer = site.client.get("/v1/auth/oidc/login", headers={"Host": host}, follow_redirects=False)
    assert answer.status_code == 400
    assert "location" not in answer.headers


def test_a_server_on_the_network_needs_to_know_its_own_url(
    tmp_path: Path, provider: Provider
) -> None:
    with site_with(tmp_path, provider) as site:
        server = site.services.settings.server.model_copy(update={"host": "0.0.0.0"})
        site.services.settings = site.services.settings.model_copy(update={"server": server})
        answer = begin(site)
        assert answer.status_code == 400
        assert "auth.public_url" in answer.json()["detail"]


def refused(site: Site, answer: httpx2.Response, status: int = 401) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert "You are not signed in" in answer.text
    assert "millstream_session" not in cookies_of(answer)
    assert site.client.post("/v1/auth/refresh").status_code == 400


def changed(**change: Any) -> Callable[[dict[str, str]], dict[str, str]]:
    def answer(query: dict[str, str]) -> dict[str, str]:
        found = {"code": query["code"], "state": query["state"], **change}
        return {name: value for name, value in found.items() if value is not None}

    return answer


@pytest.mark.parametrize(
    "change",
    [
        {"state": "x"},
        {"state": None},
        {"state": "\ud83d"[:0] + "é"},
        {"code": None},
        {"code": "x"},
        {"code": "x" * 5000},
        {"iss": "https://evil.example"},
        {"iss": ""},
        {"error": "access_denied"},
        {"error": "<script>alert(1)</script>", "error_description": "<script>"},
    ],
    ids=str,
)
def test_an_answer_that_does_not_belong_to_the_question(
    site: Site, provider: Provider, change: dict[str, str]
) -> None:
    provider.answer = changed(**change)
    answer = sign_in(site)
    refused(site, answer)
    assert "<script>" not in answer.text


def test_an_answer_in_another_browser(site: Site) -> None:
    back = at_provider(begin(site).headers["location"])
    cookie = site.client.cookies["millstream_sign_in"]
    site.client.cookies.clear()
    refused(site, come_back(site, back))
    for forged in ("", "x", cookie[:-4], cookie[4:], cookie.swapcase(), "A" * 5000):
        answer = site.client.get(
            back, headers={"Cookie": f"millstream_sign_in={forged}"}, follow_redirects=False
        )
        refused(site, answer)


def test_an_answer_that_comes_twice(site: Site) -> None:
    back = at_provider(begin(site).headers["location"])
    cookie = {"Cookie": f"millstream_sign_in={site.client.cookies['millstream_sign_in']}"}
    assert come_back(site, back).status_code == 303
    site.client.cookies.clear()
    refused(site, site.client.get(back, headers=cookie, follow_redirects=False))


def test_an_answer_with_parameters_twice(site: Site) -> None:
    back = at_provider(begin(site).headers["location"])
    refused(site, come_back(site, back + "&state=x"))


def test_a_sign_in_of_one_provider_is_none_of_the_next(site: Site) -> None:
    back = at_provider(begin(site, "github").headers["location"])
    cookie = {"Cookie": f"millstream_sign_in={site.client.cookies['millstream_sign_in']}"}
    site.client.cookies.clear()
    mixed = back.replace("/github/", "/oidc/")
    refused(site, site.client.get(mixed, headers=cookie, follow_redirects=False))


def test_a_sign_in_that_took_too_long(site: Site) -> None:
    back = at_provider(begin(site).headers["location"])
    service = site.services.access.sign_in
    real = service._clock
    service._clock = lambda: real() + 600
    refused(site, come_back(site, back))


def changed_claims(**change: Any) -> Callable[[Provider], Callable[[Json], str | None]]:
    def of(provider: Provider) -> Callable[[Json], str | None]:
        def make(claims: Json) -> str | None:
            found = {**claims, **change}
            return provider.signer.token({k: v for k, v in found.items() if v is not None})

        return make

    return of


FORGERIES: dict[str, Callable[[Provider], Callable[[Json], str | None]]] = {
    "no ID token": lambda p: lambda claims: None,
    "no token at all": lambda p: lambda claims: "x",
    "alg none": lambda p: (
        lambda claims: raw_token({"alg": "none", "kid": "p1"}, claims, lambda text: b"")
    ),
    "signed by another key": lambda p: STRANGER.token,
    "with its own key in the header": lambda p: (
        lambda claims: STRANGER.token(claims, {"alg": "RS256", "kid": "p1", "jwk": STRANGER.jwk})
    ),
    "an access token": lambda p: (
        lambda claims: p.signer.token(claims, {"alg": "RS256", "kid": "p1", "typ": "at+jwt"})
    ),
    "wrong nonce": changed_claims(nonce="x"),
    "no nonce": changed_claims(nonce=None),
    "nonce of another type": changed_claims(nonce=["x"]),
    "nonce of half a letter": changed_claims(nonce="\ud800"),
    "wrong issuer": changed_claims(iss="https://evil.example"),
    "another audience": changed_claims(aud="another-client"),
    "no audience": changed_claims(aud=None),
    "several audiences and no party": changed_claims(aud=[CLIENT_ID, "another"]),
    "another party": changed_claims(aud=[CLIENT_ID, "another"], azp="another"),
    "expired": changed_claims(exp=1),
    "no expiry": changed_claims(exp=None),
    "no subject": changed_claims(sub=None),
    "groups of another type": changed_claims(groups={"ops": True}),
}


@pytest.mark.parametrize("name", sorted(FORGERIES))
def test_a_provider_that_forges_signs_nobody_in(site: Site, provider: Provider, name: str) -> None:
    provider.id_token = FORGERIES[name](provider)
    refused(site, sign_in(site))
    provider.id_token = None
    assert sign_in(site).status_code == 303


def test_userinfo_of_somebody_else(site: Site, provider: Provider) -> None:
    provider.claims = {"sub": "ann"}
    provider.userinfo = {"sub": "ben", "groups": ["ops"]}
    refused(site, sign_in(site))
    provider.userinfo = {"sub": "ann", "groups": ["staff"], "nonce": "x"}
    assert sign_in(site).status_code == 303
    assert (
        site.client.get("/v1/auth/me", headers=bearer(access_token(site))).json()["role"]
        == "readonly"
    )


@pytest.mark.parametrize("claims", [{"groups": []}, {"groups": ["others"]}, {}])
def test_somebody_without_a_role_is_told_so(site: Site, provider: Provider, claims: Json) -> None:
    provider.claims = {"sub": "ann", "name": "<b>Ann</b>", **claims}
    answer = sign_in(site)
    refused(site, answer, 403)
    assert "&lt;b&gt;Ann" in answer.text


@pytest.mark.parametrize(
    ("token_answer", "status"),
    [
        ((400, {"error": "invalid_grant"}), 401),
        ((200, {"error": "bad_verification_code"}), 401),
        ((500, {}), 503),
        ((302, {}), 401),
        ((200, {"access_token": 5}), 401),
        ((200, []), 401),
        ((200, {"access_token": "x", "padding": "y" * 70_000}), 503),
    ],
)
def test_token_endpoints_that_do_not_answer_well(
    site: Site, provider: Provider, token_answer: Any, status: int
) -> None:
    provider.token_answer = token_answer
    refused(site, sign_in(site), status)


@pytest.mark.parametrize(
    "discovery",
    [
        {"issuer": "https://evil.example"},
        {"authorization_endpoint": "http://evil.example/"},
        {"token_endpoint": "javascript:x"},
        {"token_endpoint": None},
    ],
)
def test_a_provider_that_describes_itself_wrongly(
    site: Site, provider: Provider, discovery: Json
) -> None:
    provider.discovery = discovery
    assert begin(site).status_code == 503


def test_github_says_who_somebody_is_without_an_id_token(site: Site, provider: Provider) -> None:
    assert sign_in(site, "github").status_code == 303
    me = site.client.get("/v1/auth/me", headers=bearer(access_token(site))).json()
    assert (me["id"], me["name"], me["role"]) == (f"{provider.url}#7", "octocat", "user")
    assert ("POST", "/login/oauth/access_token") in provider.asked


@pytest.mark.parametrize(
    ("user", "orgs", "status"),
    [
        ({"id": "7", "login": "octocat"}, [{"login": "millstream"}], 401),
        ({}, [{"login": "millstream"}], 401),
        ({"id": 7, "login": "octocat"}, [{"login": "others"}], 403),
        ({"id": 7, "login": "octocat"}, {"login": "millstream"}, 403),
        ({"id": 7, "login": "millstream"}, [5, None, {"login": 5}], 403),
    ],
)
def test_github_users_who_do_not_get_in(
    site: Site, provider: Provider, user: Json, orgs: Any, status: int
) -> None:
    provider.user, provider.orgs = user, orgs
    refused(site, sign_in(site, "github"), status)


def test_forging_is_slowed(tmp_path: Path, provider: Provider) -> None:
    with site_with(tmp_path, provider, failed_attempts_per_minute=3) as site:
        back = f"{BASE}/v1/auth/oidc/callback?state=x&code=y"
        statuses = [come_back(site, back).status_code for _ in range(5)]
        assert statuses == [401] * 3 + [429] * 2
        assert begin(site).status_code == 429


def test_no_secret_of_a_sign_in_is_written_down(
    tmp_path: Path, provider: Provider, capfd: pytest.CaptureFixture[str]
) -> None:
    with site_with(tmp_path, provider) as site:
        first = begin(site)
        back = at_provider(first.headers["location"])
        assert come_back(site, back).status_code == 303
        cookie = site.client.cookies["millstream_session"]
        provider.id_token = FORGERIES["wrong nonce"](provider)
        second = at_provider(begin(site).headers["location"])
        shown = come_back(site, second).text
    secrets = [CLIENT_SECRET, cookie, "at-for-userinfo"]
    for url in (first.headers["location"], back, second):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)
        secrets += [query[name][0] for name in ("state", "code", "nonce") if name in query]
    printed = capfd.readouterr()
    files = "".join(
        path.read_bytes().decode("latin-1")
        for path in (tmp_path / "data" / "meta").iterdir()
        if path.is_file()
    )
    for secret in secrets:
        assert secret not in printed.out + printed.err + files + shown
    lines = [
        json.loads(line)
        for line in (tmp_path / "data" / "meta" / "audit.jsonl").read_text().splitlines()
    ]
    found = [(line["action"], line["outcome"], line["actor"]["kind"]) for line in lines]
    assert ("session.begin", "ok", "user") in found
    assert ("session.begin", "unauthenticated", "anonymous") in found

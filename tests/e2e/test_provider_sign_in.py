"""Signing in at a provider in a real browser: one that tells the truth, and one that forges."""

from __future__ import annotations

import os
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2
import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Browser, Route, expect
from pydantic import SecretStr

from millstream_gateway.app import create_app
from millstream_gateway.backends.fake import FakeBackend
from millstream_gateway.settings import (
    AuthSettings,
    ProviderSettings,
    ProvidersSettings,
    Settings,
    StorageSettings,
)
from tests.e2e.page_support import Explorer, Watch, chromium
from tests.gateway.tls_support import Authority
from tests.gateway.token_support import Json, Signer, raw_token
from tests.services.forging_provider import Provider, forging_provider
from tests.services.http import Client
from tests.services.millstream import Millstream
from tests.services.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider
from tests.services.process import wait_until

pytestmark = pytest.mark.e2e

ROOT_KEY = "a-key-for-the-administrator"
ROOT = {"Authorization": f"Bearer {ROOT_KEY}"}
ACCOUNTS = {
    "ann": {"name": "Ann", "groups": ["ops"], "org": ["hill"]},
    "ben": {"name": "Ben", "groups": ["staff"], "org": ["hill", "vale"]},
    "eve": {"name": "Eve", "groups": [], "org": ["hill"]},
}


@dataclass
class Town:
    """A server that sends people to two providers."""

    url: str
    server: Millstream
    honest: OidcProvider
    forging: Provider
    logs: Path

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> int:
        with Client(self.url) as client:
            kind = {"Content-Type": "application/json"} if body else {}
            return client.request(
                method, path, body=body, headers={**ROOT, **kind, **headers}
            ).status

    def sessions(self) -> list[Json]:
        with Client(self.url) as client:
            found: list[Json] = client.request("GET", "/v1/admin/sessions", headers=ROOT).json()[
                "sessions"
            ]
            return found


def environment(honest: str, forging: str) -> dict[str, str]:
    provider = {
        "CLIENT_ID": CLIENT_ID,
        "CLIENT_SECRET": CLIENT_SECRET,
        "ROLE_CLAIM": "groups",
        "ROLES": '{"ops": "admin", "staff": "readonly"}',
        "TENANT_CLAIM": "org",
    }
    found = {"ADMIN_KEY": ROOT_KEY, "INSECURE_LOOPBACK": "true", "ACCESS_TTL": "5s"}
    for name, issuer in (("OIDC", honest), ("OKTA", forging)):
        for key, value in {**provider, "ISSUER": issuer}.items():
            found[f"PROVIDERS__{name}__{key}"] = value
    named = {f"MILLSTREAM_AUTH__{name}": value for name, value in found.items()}
    return {**os.environ, **named, "MILLSTREAM_LOG__LEVEL": "debug"}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    logs = folder / "logs"
    with (
        OidcProvider(logs, ACCOUNTS) as honest,
        forging_provider() as forging,
        Millstream(folder / "data", logs, env=environment(honest.url, forging.url)) as server,
    ):
        honest.register(f"{server.url}/v1/auth/oidc/callback")
        town = Town(server.url, server, honest, forging, logs)
        for tenant in ("hill", "vale"):
            body = f'{{"name":"{tenant}"}}'.encode()
            assert town.ask("POST", "/v1/admin/tenants", body) == 201
            headers = {"X-Scope-OrgID": tenant, "Content-Type": "text/plain"}
            text = f"lamp_lumens_{tenant} 800\n".encode()
            assert town.ask("POST", "/api/v1/import/prometheus", text, **headers) == 200
        yield town


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@contextmanager
def visitor(browser: Browser, town: Town) -> Iterator[Explorer]:
    """A window of its own that may go to the providers and nowhere else."""
    context = browser.new_context()
    try:
        page = context.new_page()
        watch = Watch(town.url)
        watch.attach(page)
        providers = (town.honest.url, town.forging.url)

        def only_here(route: Route) -> None:
            # The provider's own pages ask for a font from the network.
            inside = route.request.url.startswith((town.url, *providers))
            route.continue_() if inside else route.abort()

        context.route("**/*", only_here)
        yield Explorer(page, town.url, watch)
        ours = [
            fault
            for fault in watch.faults
            if not any(url in fault for url in (*providers, "fonts.googleapis.com", "ERR_FAILED"))
        ]
        assert not ours, ours
    finally:
        context.close()


def form_of(page: Explorer) -> Any:
    return page.page.get_by_role("form", name="Sign in")


def go_to_provider(page: Explorer, town: Town, query: str = "up") -> None:
    page.page.goto(f"{town.url}/?q={query}")
    form_of(page).get_by_role("link", name="Sign in with single sign-on").click()


def sign_in_as(page: Explorer, town: Town, name: str, query: str = "up") -> None:
    go_to_provider(page, town, query)
    page.page.wait_for_url(f"{town.honest.url}/**")
    page.page.get_by_placeholder("Enter any login").fill(name)
    page.page.get_by_placeholder("and password").fill("x")
    page.page.get_by_role("button", name="Sign-in").click()
    page.page.get_by_role("button", name="Continue").click()
    page.page.wait_for_url(f"{town.url}/**")


def cookie_of(page: Explorer) -> Any:
    cookies = page.page.context.cookies(f"{page.url}/v1/auth/refresh")
    return next((one for one in cookies if one["name"] == "millstream_session"), None)


def test_somebody_signs_in_stays_and_leaves(town: Town, browser: Browser) -> None:
    with visitor(browser, town) as page:
        sign_in_as(page, town, "ann", "lamp_lumens_hill")
        page.settle()
        # The query that the page was opened with has survived the way to the provider.
        assert page.legend() == ["lamp_lumens_hill"]
        assert page.page.url.startswith(f"{town.url}/?")
        cookie = cookie_of(page)
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        seen = page.page.evaluate(
            "[JSON.stringify(sessionStorage), JSON.stringify(localStorage), document.cookie, location.href]"
        )
        assert "msr_" not in str(seen)
        assert "eyJ" not in str(seen)
        # Another tab and a new load need no second sign-in.
        page.page.reload()
        page.settle()
        other = page.page.context.new_page()
        other.goto(f"{town.url}/?q=lamp_lumens_hill")
        other.locator(".legend-name").first.wait_for()
        assert cookie_of(page)["value"] != cookie["value"]
        other.close()
        page.page.get_by_role("button", name="Sign out").click()
        expect(form_of(page)).to_be_visible()
        wait_until("the session is over", 10, lambda: cookie_of(page) is None)
        assert town.sessions() == []
        page.page.reload()
        expect(form_of(page)).to_be_visible()


def test_two_tabs_at_once_do_not_end_each_other(town: Town, browser: Browser) -> None:
    with visitor(browser, town) as page:
        sign_in_as(page, town, "ann", "lamp_lumens_hill")
        page.settle()
        others = [page.page.context.new_page() for _ in range(2)]
        for other in others:
            other.goto(f"{town.url}/?q=lamp_lumens_hill", wait_until="commit")
        for other in others:
            other.locator(".legend-name").first.wait_for()
            other.close()
        (session,) = town.sessions()
        # An access token lives for five seconds here: the page renews it by itself.
        before = session["renewed_ms"]

        def renewed() -> bool:
            page.page.get_by_role("button", name="Run", exact=False).first.click()
            page.settle()
            return any(one["renewed_ms"] > before for one in town.sessions())

        wait_until("the token is renewed", 30, renewed)
        assert page.legend() == ["lamp_lumens_hill"]
        town.ask("DELETE", f"/v1/admin/sessions/{session['id']}")


def test_an_administrator_ends_a_session_within_five_seconds(town: Town, browser: Browser) -> None:
    with visitor(browser, town) as page:
        sign_in_as(page, town, "ann", "lamp_lumens_hill")
        page.settle()
        (session,) = town.sessions()
        assert (session["name"], session["kind"], session["role"]) == ("Ann", "user", "admin")
        assert town.ask("DELETE", f"/v1/admin/sessions/{session['id']}") == 200
        page.page.get_by_role("button", name="Run", exact=False).first.click()
        expect(form_of(page)).to_be_visible(timeout=5000)
        expect(form_of(page).get_by_role("alert")).to_contain_text("session is over")


def test_who_has_several_tenants_chooses_one(town: Town, browser: Browser) -> None:
    with visitor(browser, town) as page:
        sign_in_as(page, town, "ben", "lamp_lumens_vale")
        form_of(page).get_by_label("Tenant").select_option("vale")
        form_of(page).get_by_role("button", name="Sign in").click()
        page.settle()
        assert page.legend() == ["lamp_lumens_vale"]
        page.page.reload()
        page.settle()
        assert page.legend() == ["lamp_lumens_vale"]
        page.page.get_by_role("button", name="Sign out").click()
        expect(form_of(page)).to_be_visible()


def test_who_has_no_role_is_told_so(town: Town, browser: Browser) -> None:
    with visitor(browser, town) as page:
        sign_in_as(page, town, "eve")
        expect(page.page.get_by_text("Eve is known but has no role here")).to_be_visible()
        assert cookie_of(page) is None
        page.page.get_by_role("link", name="Back").click()
        expect(form_of(page)).to_be_visible()


STRANGER = Signer("RS256", "p1")
FORGERIES: dict[str, Any] = {
    "wrong nonce": lambda signer, claims: signer.token({**claims, "nonce": "x"}),
    "wrong issuer": lambda signer, claims: signer.token({**claims, "iss": "https://evil.example"}),
    "alg none": lambda signer, claims: raw_token(
        {"alg": "none", "kid": "p1"}, claims, lambda _: b""
    ),
    "other audience": lambda signer, claims: signer.token({**claims, "aud": "another-client"}),
    "other key": lambda signer, claims: STRANGER.token(claims),
}


def test_a_provider_that_forges_signs_nobody_in(town: Town, browser: Browser) -> None:
    signer = town.forging.signer
    town.forging.claims = {"sub": "ann", "name": "Ann", "groups": ["ops"], "org": "hill"}
    with visitor(browser, town) as page:
        for name, forge in FORGERIES.items():
            town.forging.id_token = lambda claims, forge=forge: forge(signer, claims)
            answer = page.page.goto(f"{town.url}/v1/auth/okta/login")
            assert answer is not None
            assert (answer.status, page.page.url.split("?")[0]) == (
                401,
                f"{town.url}/v1/auth/okta/callback",
            ), name
            expect(page.page.get_by_text("You are not signed in")).to_be_visible()
            assert cookie_of(page) is None, name
        page.page.get_by_role("link", name="Back").click()
        expect(form_of(page)).to_be_visible()
    assert town.sessions() == []


def test_the_forger_signs_somebody_in_when_it_tells_the_truth(town: Town, browser: Browser) -> None:
    town.forging.claims = {"sub": "ann", "name": "Ann", "groups": ["ops"], "org": "hill"}
    town.forging.id_token = None
    with visitor(browser, town) as page:
        page.page.goto(f"{town.url}/?q=lamp_lumens_hill")
        form_of(page).get_by_role("link", name="Sign in with Okta").click()
        page.settle()
        assert page.legend() == ["lamp_lumens_hill"]
        page.page.get_by_role("button", name="Sign out").click()
        expect(form_of(page)).to_be_visible()


def location_of(url: str) -> str:
    """Where the answer to this sends a browser, which is not followed."""
    parts = urlsplit(url)
    with Client(f"{parts.scheme}://{parts.netloc}") as client:
        return client.request("GET", f"{parts.path}?{parts.query}").headers["location"]


def test_an_answer_that_another_browser_asked_for_is_refused(town: Town, browser: Browser) -> None:
    """Somebody is sent a link that would sign them in as the attacker."""
    town.forging.id_token = None
    link = location_of(location_of(f"{town.url}/v1/auth/okta/login"))
    assert link.startswith(f"{town.url}/v1/auth/okta/callback?code=")
    with visitor(browser, town) as victim:
        victim.page.goto(link)
        expect(victim.page.get_by_text("this browser has begun no sign-in")).to_be_visible()
        assert cookie_of(victim) is None


def test_nothing_secret_was_logged(town: Town) -> None:
    text = b"".join(path.read_bytes() for path in town.logs.glob("millstream.*"))
    assert b'"path":"/v1/auth/oidc/callback"' in text
    for secret in (CLIENT_SECRET, ROOT_KEY, "msr_", "eyJ", "code=", "state="):
        assert secret.encode() not in text


class Tunnel:
    """A proxy that knows CONNECT only, and writes down where it was asked to go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(4096)
            method, target, _ = head.split(b" ", 2)
            assert method == b"CONNECT", head
            self.asked.append(target.decode())
            host, _, port = target.decode().rpartition(":")
            with socket.create_connection((host, int(port)), 30) as server:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=self._copy, args=(server, client), daemon=True)
                back.start()
                self._copy(client, server)
                back.join(30)

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


HERE = "http://127.0.0.1:4321"


@contextmanager
def gateway_for(honest: OidcProvider, **auth: Any) -> Iterator[TestClient]:
    """A server without a socket that sends people there."""
    provider = ProviderSettings(
        client_id=CLIENT_ID,
        client_secret=SecretStr(CLIENT_SECRET),
        issuer=honest.url,
        role_claim="groups",
        roles={"ops": "admin"},
        tenants=("*",),
    )
    settings = Settings(
        storage=StorageSettings(path=":memory:"),
        auth=AuthSettings(providers=ProvidersSettings(oidc=provider), **auth),
    )
    with TestClient(
        create_app(settings, FakeBackend()), base_url=HERE, follow_redirects=False
    ) as made:
        yield made


def walk(start: str, trusted: ssl.SSLContext) -> str:
    """Sign in and consent at the provider as a browser does; where it sends the browser back to."""
    with httpx2.Client(verify=trusted, trust_env=False) as person:
        answer = person.get(start)
        for _ in range(20):
            if answer.is_redirect:
                target = urljoin(str(answer.url), answer.headers["location"])
                if target.startswith(HERE):
                    return target
                answer = person.get(target)
                continue
            action = re.search(r'action="([^"]+)"', answer.text)
            prompt = re.search(r'name="prompt" value="(\w+)"', answer.text)
            assert action, answer.text
            assert prompt, answer.text
            form = {"prompt": prompt[1], "login": "ann", "password": "x"}
            answer = person.post(urljoin(str(answer.url), action[1]), data=form)
    raise AssertionError("the provider sends nobody back")


def test_a_provider_with_a_private_authority_is_reached_through_a_proxy(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "certificates")
    trusted = ssl.create_default_context(cafile=str(authority.ca))
    pair = authority.issue("provider", ("localhost",))
    stranger = Authority(tmp_path / "stranger", "stranger")
    with OidcProvider(tmp_path / "logs", ACCOUNTS, tls=pair) as honest:
        honest.register(f"{HERE}/v1/auth/oidc/callback", trusted)
        tunnel = Tunnel()
        for ca_file in ("", str(stranger.ca)):
            with gateway_for(honest, ca_file=ca_file) as client:
                assert client.get("/v1/auth/oidc/login").status_code == 503
        proxy = SecretStr(tunnel.url)
        with gateway_for(honest, ca_file=str(authority.ca), proxy=proxy) as client:
            sent = client.get("/v1/auth/oidc/login")
            assert sent.status_code in (302, 303, 307), sent.text
            assert sent.headers["location"].startswith(honest.url)
            back = client.get(walk(sent.headers["location"], trusted).removeprefix(HERE))
            assert back.status_code in (302, 303), back.text
            headers = {"Origin": HERE, "Sec-Fetch-Site": "same-origin"}
            renewed = client.post("/v1/auth/refresh", headers=headers)
            assert renewed.status_code == 200, renewed.text
            token = {"Authorization": f"Bearer {renewed.json()['access_token']}"}
            me = client.get("/v1/auth/me", headers=token).json()
            assert (me["name"], me["role"]) == ("Ann", "admin")
        tunnel.close()
        assert tunnel.asked
        assert set(tunnel.asked) == {urlsplit(honest.url).netloc}

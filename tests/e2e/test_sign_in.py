"""Keys and tenants as people use them: the command line, a real Prometheus, the page in Chromium."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.page_support import Explorer, chromium, explorer
from tests.services.http import Client, Response
from tests.services.millstream import Millstream
from tests.services.process import wait_until
from tests.services.prometheus import Prometheus, PrometheusConfig

pytestmark = pytest.mark.e2e


def millstream(*arguments: str, token: str = "") -> str:
    """Standard output of a command that must succeed."""
    environ = {**os.environ, **({"MILLSTREAM_TOKEN": token} if token else {})}
    done = subprocess.run(
        [sys.executable, "-m", "millstream", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environ,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Town:
    """A server that listens everywhere, with a key for its administrator."""

    url: str
    data: Path
    root: str

    def key(self, *arguments: str) -> str:
        made = millstream("key", "create", *arguments, "--server", self.url, token=self.root)
        return made.strip()

    def ask(self, path: str, key: str | None, tenant: str | None = None) -> Response:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        if tenant is not None:
            headers["X-Scope-OrgID"] = tenant
        with Client(self.url) as client:
            return client.request("GET", path, headers=headers)

    def send(self, key: str, text: str) -> None:
        with Client(self.url) as client:
            answer = client.request(
                "POST",
                "/api/v1/import/prometheus",
                body=text.encode(),
                headers={"Authorization": f"Bearer {key}"},
            )
            assert answer.status == 200, answer.text


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    data = folder / "data"
    root = millstream(
        "key", "create", "--name", "root", "--role", "admin", "--tenant", "*", "--data", str(data)
    ).strip()
    with Millstream(data, folder / "logs") as server:
        yield Town(server.url, data, root)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def test_a_key_made_in_the_folder_opens_the_server_to_its_owner_only(town: Town) -> None:
    refused = town.ask("/api/v1/query?query=1", None)
    assert refused.status == 401
    assert refused.headers["www-authenticate"] == 'Bearer realm="millstream"'
    assert town.ask("/api/v1/query?query=1", town.root).status == 200
    assert town.ask("/health", None).status == 200


def test_only_the_key_is_on_standard_output(town: Town) -> None:
    out = millstream(
        *("key", "create", "--name", "n", "--role", "user", "--expires", "30d"),
        *("--scope", "write", "--scope", "topic:orders.*", "--server", town.url),
        token=town.root,
    )
    assert out.count("\n") == 1
    key_id = out.split("_")[1]
    listed = millstream("key", "list", "--output", "json", "--server", town.url, token=town.root)
    (found,) = [key for key in json.loads(listed) if key["id"] == key_id]
    assert (found["verbs"], found["topics"]) == (["write"], ["orders.*"])
    assert found["expires_ms"] - found["created_ms"] == 30 * 86_400_000
    assert key_id in millstream("key", "list", "--data", str(town.data))


def test_a_key_revoked_in_the_folder_is_over_while_the_server_runs(town: Town) -> None:
    key = town.key("--name", "short", "--role", "user")
    assert town.ask("/api/v1/labels", key).status == 200
    renewed = millstream(
        "key", "rotate", key.split("_")[1], "--overlap", "1h", "--data", str(town.data)
    ).strip()
    wait_until(
        "the new secret is good", 10, lambda: town.ask("/api/v1/labels", renewed).status == 200
    )
    assert town.ask("/api/v1/labels", key).status == 200
    millstream("key", "revoke", key.split("_")[1], "--data", str(town.data))
    wait_until("the key is over", 10, lambda: town.ask("/api/v1/labels", key).status == 401)
    assert town.ask("/api/v1/labels", renewed).status == 401


def test_commands_take_a_token_and_a_tenant(town: Town, tmp_path: Path) -> None:
    key = town.key("--name", "two", "--role", "user", "--tenant", "north", "--tenant", "south")
    file = tmp_path / "in.prom"
    file.write_text("from_file 7\n")
    tenant = ("--server", town.url, "--tenant", "north")
    millstream("import", str(file), "--format", "prometheus", *tenant, token=key)
    answer = millstream("query", "from_file", "--output", "csv", *tenant, "--token", key)
    assert "7" in answer
    other = ("--server", town.url, "--tenant", "south", "--token", key)
    assert "7" not in millstream("query", "from_file", "--output", "csv", *other).splitlines()[1:]
    names = {
        one["name"]
        for one in json.loads(
            millstream("tenant", "list", "--output", "json", "--server", town.url, token=town.root)
        )
    }
    assert {"default", "north", "south"} <= names


def test_a_real_prometheus_writes_with_its_key_into_its_tenant(town: Town, tmp_path: Path) -> None:
    key = town.key("--name", "prom", "--role", "user", "--scope", "write", "--tenant", "east")
    reader = town.key("--name", "reader", "--role", "readonly", "--tenant", "east")
    config = PrometheusConfig(
        remote_write_urls=[f"{town.url}/api/v1/write"],
        remote_write_extra={"authorization": {"credentials": key}},
    )

    def series_of(token: str, tenant: str | None = None) -> list[object]:
        answer = town.ask("/api/v1/query?query=up", token, tenant)
        assert answer.status == 200, answer.text
        found: list[object] = answer.json()["data"]["result"]
        return found

    with Prometheus(tmp_path, config):
        wait_until("samples have come", 60, lambda: bool(series_of(reader)))
    assert series_of(town.root) == []
    assert series_of(town.root, "east")
    assert town.ask("/api/v1/labels", key).status == 403


def test_the_server_listens_beyond_loopback_once_there_is_a_key(tmp_path: Path) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "millstream", "serve", "--host", "0.0.0.0", "--port", "0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert refused.returncode == 2
    assert "not a loopback address" in refused.stderr
    key = millstream(
        "key", "create", "--name", "a", "--role", "user", "--data", str(tmp_path / "data")
    ).strip()
    command = [sys.executable, "-m", "millstream", "serve", "--host", "0.0.0.0", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1].replace("0.0.0.0", "127.0.0.1")
            with Client(url) as client:
                headers = {"Authorization": f"Bearer {key}"}
                assert client.request("GET", "/api/v1/labels").status == 401
                assert client.request("GET", "/api/v1/labels", headers=headers).status == 200
        finally:
            server.terminate()
            server.wait(60)


def sign_in(page: Explorer, key: str) -> None:
    form = page.page.get_by_role("form", name="Sign in")
    form.get_by_label("API key").fill(key)
    form.get_by_role("button", name="Sign in").click()


def test_the_page_asks_for_a_key_and_keeps_it_in_the_tab(town: Town, browser: Browser) -> None:
    writer = town.key("--name", "w", "--role", "user", "--tenant", "west")
    town.send(writer, "lamp_lumens 800\n")
    reader = town.key("--name", "r", "--role", "readonly", "--tenant", "west")
    with explorer(browser, town.url) as page:
        page.page.goto(f"{town.url}/?q=lamp_lumens")
        form = page.page.get_by_role("form", name="Sign in")
        expect(form).to_be_visible()
        sign_in(page, "ms_nobody_nothing")
        expect(form.get_by_role("alert")).to_contain_text("does not know this key")
        sign_in(page, "two words")
        expect(form.get_by_role("alert")).to_contain_text("Paste the whole key")
        sign_in(page, reader)
        page.settle()
        # The query that the page was opened with has survived the sign-in.
        assert page.legend() == ["lamp_lumens"]
        stored = page.page.evaluate(
            "[JSON.stringify(sessionStorage), JSON.stringify(localStorage), document.cookie]"
        )
        assert reader in stored[0]
        assert reader not in stored[1] + stored[2] + page.page.url
        page.page.reload()
        page.settle()
        assert page.legend() == ["lamp_lumens"]
        # Another tab does not have the key.
        other = page.page.context.new_page()
        other.goto(f"{town.url}/")
        expect(other.get_by_role("form", name="Sign in")).to_be_visible()
        other.close()
        page.page.get_by_role("button", name="Sign out").click()
        expect(form).to_be_visible()
        assert reader not in page.page.evaluate("JSON.stringify(sessionStorage)")
        assert page.overflow() == 0


def test_the_page_asks_which_tenant_when_a_key_has_several(town: Town, browser: Browser) -> None:
    key = town.key("--name", "b", "--role", "user", "--tenant", "hill", "--tenant", "vale")
    only = town.key("--name", "v", "--role", "user", "--tenant", "vale")
    town.send(only, "in_the_vale 1\n")
    with explorer(browser, town.url, width=360) as page:
        page.page.goto(f"{town.url}/?q=in_the_vale")
        sign_in(page, key)
        form = page.page.get_by_role("form", name="Sign in")
        form.get_by_label("Tenant").select_option("vale")
        assert page.overflow() == 0
        form.get_by_role("button", name="Sign in").click()
        page.settle()
        assert page.legend() == ["in_the_vale"]


def test_the_page_signs_a_user_in_by_a_password_that_it_keeps_nowhere(
    town: Town, browser: Browser
) -> None:
    writer = town.key("--name", "h", "--role", "user", "--tenant", "harbour")
    town.send(writer, "boats 3\n")
    password = "a long word of passing"
    wanted = {"name": "ann", "password": password, "role": "readonly", "tenants": ["harbour"]}
    headers = {"Authorization": f"Bearer {town.root}", "Content-Type": "application/json"}
    with Client(town.url) as client:
        body = json.dumps(wanted).encode()
        assert client.request("POST", "/v1/admin/users", body=body, headers=headers).status == 201
    with explorer(browser, town.url, width=360) as page:
        page.page.goto(f"{town.url}/?q=boats")
        form = page.page.get_by_role("form", name="Sign in")
        form.get_by_role("button", name="Use a name and password").click()
        for tried, says in (
            ("not the right one", "The name or the password is wrong"),
            (password, ""),
        ):
            form.get_by_label("Name").fill("ann")
            form.get_by_label("Password").fill(tried)
            form.get_by_role("button", name="Sign in").click()
            if says:
                expect(form.get_by_role("alert")).to_contain_text(says)
                assert page.overflow() == 0
        page.settle()
        assert page.legend() == ["boats"]
        stored = page.page.evaluate(
            "[JSON.stringify(sessionStorage), JSON.stringify(localStorage), document.cookie]"
        )
        assert not [one for one in stored if password in one or "ey" in one or "msr_" in one]
        assert password not in page.page.url
        fresh = "another word of passing"
        page.page.get_by_role("button", name="Password").click()
        dialog = page.page.get_by_role("dialog", name="Change password")
        for old, again, says in (
            (password, "not the same twice", "not the same in both"),
            ("not the old one", fresh, "The old password is wrong"),
            (password, fresh, ""),
        ):
            dialog.get_by_label("Old password").fill(old)
            dialog.get_by_label("New password", exact=True).fill(fresh)
            dialog.get_by_label("New password again").fill(again)
            dialog.get_by_role("button", name="Change password").click()
            if says:
                expect(dialog.get_by_role("alert")).to_contain_text(says)
                assert page.overflow() == 0
        expect(dialog.get_by_role("status")).to_contain_text("is changed")
        dialog.get_by_role("button", name="Close").click()
        page.page.get_by_role("button", name="Run").click()
        page.settle()
        assert page.legend() == ["boats"]
        page.page.get_by_role("button", name="Sign out").click()
        expect(form).to_be_visible()
        with Client(town.url) as client:

            def over() -> bool:
                listed = client.request("GET", "/v1/admin/sessions", headers=headers).json()
                return not [one for one in listed["sessions"] if one["kind"] == "user"]

            wait_until("the session is over", 10, over)


def test_the_page_asks_again_when_its_key_is_revoked(town: Town, browser: Browser) -> None:
    key = town.key("--name", "gone", "--role", "readonly")
    with explorer(browser, town.url) as page:
        page.page.goto(f"{town.url}/?q=vector(1)")
        sign_in(page, key)
        page.settle()
        millstream("key", "revoke", key.split("_")[1], "--server", town.url, token=town.root)
        form = page.page.get_by_role("form", name="Sign in")
        run = page.page.get_by_role("button", name="Run", exact=False).first
        # What the page asks for by itself may be refused before the button is pressed.
        expect(form.or_(run).first).to_be_visible()
        if not form.is_visible():
            run.click()
        expect(form.get_by_role("alert")).to_contain_text("does not accept this key any more")


def test_no_secret_is_in_the_logs_or_the_files(town: Town, tmp_path: Path) -> None:
    data = tmp_path / "data"
    key = millstream("key", "create", "--name", "a", "--role", "user", "--data", str(data)).strip()
    environ = {"MILLSTREAM_LOG__LEVEL": "debug", "MILLSTREAM_AUTH__ADMIN_KEY": town.root}
    with (
        Millstream(data, tmp_path / "logs", env={**os.environ, **environ}) as server,
        Client(server.url) as client,
    ):
        for secret in (key, key + "x", town.root):
            for headers in ({"Authorization": f"Bearer {secret}"}, {"X-API-Key": secret}):
                client.request("GET", "/api/v1/labels", headers=headers)
                client.request("GET", "/v1/admin/keys", headers=headers)
    files = [path for folder in (data, tmp_path / "logs") for path in folder.rglob("*")]
    text = b"".join(path.read_bytes() for path in files if path.is_file())
    assert b"request" in text
    for secret in (key, town.root):
        assert secret.rpartition("_")[2].encode() not in text

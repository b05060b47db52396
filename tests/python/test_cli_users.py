"""`millstream user`: by a server and by its folder; passwords come from the terminal or standard input only."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from millstream.cli import main
from millstream_gateway.backends.fake import FakeBackend
from millstream_gateway.settings import Settings, StorageSettings
from tests.gateway.conftest import running
from tests.services.process import wait_until

PASSWORD = "correct horse battery"
OTHER = "staple in the rain"


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Site:
    url: str
    data: Path
    root: str

    def run(self, *arguments: str, stdin: str = "", way: str = "server") -> Done:
        place = ("--server", self.url) if way == "server" else ("--data", str(self.data))
        return run("user", *arguments, *place, stdin=stdin, token=self.root)

    def sign_in(self, password: str, name: str = "ann") -> httpx2.Response:
        form = {"grant_type": "password", "username": name, "password": password}
        return httpx2.post(f"{self.url}/v1/auth/token", data=form)

    def status(self, access_token: str) -> int:
        headers = {"Authorization": f"Bearer {access_token}"}
        return httpx2.get(f"{self.url}/v1/auth/me", headers=headers).status_code

    def audited(self) -> set[str]:
        """What was done with users; the log has it before the answer."""
        lines = b"".join(one.read_bytes() for one in self.data.rglob("audit.jsonl"))
        actions = {json.loads(line)["action"] for line in lines.splitlines()}
        assert PASSWORD.encode() not in lines
        return {action for action in actions if action.startswith("user.")}


def run(*arguments: str, stdin: str = "", token: str = "") -> Done:
    """The command in this process, which is a second faster than one of its own."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patched,
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        patched.setattr(sys, "argv", ["millstream", *arguments])
        patched.setattr(sys, "stdin", io.StringIO(stdin))
        patched.setenv("MILLSTREAM_TOKEN", token)
        with pytest.raises(SystemExit) as done:
            main()
    return Done(int(done.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    data = tmp_path / "data"
    made = run(
        *("key", "create", "--name", "root", "--role", "admin", "--tenant", "*"),
        *("--data", str(data)),
    )
    assert made.code == 0, made.err
    with running(Settings(storage=StorageSettings(path=str(data))), FakeBackend()) as port:
        yield Site(f"http://127.0.0.1:{port}", data, made.out.strip())


@pytest.mark.parametrize("way", ["server", "folder"])
def test_a_user_is_made_changed_shut_out_and_removed(site: Site, way: str) -> None:
    made = site.run(
        *("create", "ann", "--role", "readonly", "--tenant", "shop"),
        stdin=f"{PASSWORD}\n",
        way=way,
    )
    assert (made.code, made.out) == (0, ""), made.err
    assert made.err == "made user ann: readonly, may read, tenants shop\n"
    # Another process may have made them; a server notices within a second.
    wait_until("ann signs in", 10, lambda: site.sign_in(PASSWORD).status_code == 200)
    access = site.sign_in(PASSWORD).json()["access_token"]

    assert site.run("set-password", "ann", stdin=f"{OTHER}\n", way=way).code == 0
    wait_until("the session is over", 10, lambda: site.status(access) == 401)
    assert site.sign_in(PASSWORD).status_code == 400
    access = site.sign_in(OTHER).json()["access_token"]

    assert site.run("disable", "ann", way=way).code == 0
    wait_until("ann is shut out", 10, lambda: site.status(access) == 401)
    assert site.sign_in(OTHER).status_code == 400
    (listed,) = json.loads(site.run("list", "--output", "json", way=way).out)
    assert (listed["name"], listed["disabled"], listed["tenants"]) == ("ann", True, ["shop"])
    assert "digest" not in listed
    assert "disabled" in site.run("list", way=way).out

    assert site.run("enable", "ann", way=way).code == 0
    wait_until("ann is back", 10, lambda: site.sign_in(OTHER).status_code == 200)
    assert site.run("delete", "ann", way=way).code == 0
    wait_until("ann is gone", 10, lambda: site.sign_in(OTHER).status_code == 400)
    gone = site.run("delete", "ann", way=way)
    assert (gone.code, gone.err) == (1, "error: there is no such user\n")
    assert site.audited() == {"user.create", "user.change", "user.delete"}


def test_users_change_their_own_password_without_a_key(site: Site) -> None:
    assert site.run("create", "ann", "--role", "user", stdin=PASSWORD).code == 0
    before = site.sign_in(PASSWORD).json()["access_token"]
    change = ("user", "set-password", "ann", "--own", "--server", site.url)
    wrong = run(*change, stdin=f"not {PASSWORD}\n{OTHER}\n")
    assert wrong.code == 1
    assert "no user has this name and this password" in wrong.err
    done = run(*change, stdin=f"{PASSWORD}\n{OTHER}\n")
    assert (done.code, done.out) == (0, ""), done.err
    assert site.status(before) == 401
    assert site.sign_in(PASSWORD).status_code == 400
    assert site.sign_in(OTHER).status_code == 200
    refused = run(*change, stdin=f"{OTHER}\nshort\n")
    assert refused.code == 1
    assert "10 to 200 characters" in refused.err
    assert run("user", "set-password", "ann", "--own", "--data", str(site.data)).code == 2


def test_a_list_never_cuts_what_the_other_commands_ask_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    name = "ann" * 20
    assert site.run("create", name, "--role", "user", stdin=PASSWORD).code == 0
    listed = site.run("list").out
    assert name in listed
    # Nor is what stands behind it: every line has its end.
    assert {line[-1] for line in listed.splitlines()} == set("┓┃┩│┘")


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "error"),
    [
        (("create", "ann", "--role", "user"), "", 2, "expected on standard input"),
        (("create", "ann", "--role", "user"), "\n", 2, "expected on standard input"),
        (("create", "ann", "--role", "user"), "short\n", 1, "10 to 200 characters"),
        (("create", "ann", "--role", "user"), "x" * 5000, 1, "10 to 200 characters"),
        (("create", "a/b", "--role", "user"), PASSWORD, 1, "letters, digits"),
        (("create", "..", "--role", "user"), PASSWORD, 1, "begins with no dot"),
        (("create", "ann", "--role", "king"), PASSWORD, 2, "king"),
        (("create", "ann", "--role", "user", "--scope", "fly"), PASSWORD, 2, "fly is no scope"),
        (("create", "ann", "--role", "user", "--password", "p"), "", 2, "No such option"),
        (("set-password", "nobody"), PASSWORD, 1, "there is no such user"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(
    site: Site, arguments: tuple[str, ...], stdin: str, code: int, error: str
) -> None:
    done = site.run(*arguments, stdin=stdin, way="folder")
    assert (done.code, done.out) == (code, ""), done.err
    assert error in done.err
    assert json.loads(site.run("list", "--output", "json", way="folder").out) == []


def test_without_a_key_nobody_makes_users(site: Site) -> None:
    made = run(*("user", "create", "eve", "--role", "admin", "--server", site.url), stdin=PASSWORD)
    assert made.code == 1
    assert site.sign_in(PASSWORD, "eve").status_code == 400


def typed(arguments: list[str], *lines: str) -> tuple[int, str]:
    """What a command says on a terminal on which somebody types; and its exit code."""
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "millstream", *arguments],
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
    ) as process:
        os.close(end)
        said = b""
        for line in lines:
            # Typed when it is asked for: what comes before is dropped when the echo is turned off.
            asked = said.count(b": ")
            while said.count(b": ") == asked:
                said += os.read(terminal, 4096)
            os.write(terminal, line.encode() + b"\n")
        try:
            while more := os.read(terminal, 4096):
                said += more
        except OSError:
            # The other end is closed.
            pass
        code = process.wait(60)
    os.close(terminal)
    return code, said.decode()


def test_on_a_terminal_a_password_is_asked_for_twice_and_not_shown(tmp_path: Path) -> None:
    create = ["user", "create", "ann", "--role", "user", "--data", str(tmp_path / "data")]
    code, said = typed(create, PASSWORD, OTHER)
    assert code == 1, said
    assert "the two passwords differ" in said
    code, said = typed(create, PASSWORD, PASSWORD)
    assert code == 0, said
    assert "Password for ann: " in said
    assert "made user ann" in said
    assert PASSWORD not in said

"""The plugin that looks for secrets in logs finds them, and takes nothing else for one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import no_secrets

ROOT = Path(__file__).resolve().parents[2]
# Made up here, in pieces, so that no scanner takes this file for a leak.
KEY = "ms_4f0c2k9x1v7q_" + "Zt5fY0b3QdW8pLr2kkk"
JWT = "eyJ" + "hbGciOiJSUzI1NiJ9" + ".eyJ" + "pc3MiOiJ4IiwiYXVkIjoieSJ9" + ".c2lnbmF0dXJlMTIz"


@pytest.mark.parametrize(
    "line",
    [
        f"key={KEY}",
        f'event="{KEY}"',
        f"token {JWT} refused",
        f"Authorization: Bearer {KEY}",
        "authorization=Basic " + "Z3JhZmFuYTpzZWNyZXQ=",
        "connecting to redis://user:" + "hunter22@127.0.0.1:6379",
        "client_secret=" + "abcdefghijklmnop",
        "{'password': '" + "correct horse'}",
    ],
)
def test_a_secret_is_found_and_not_repeated(line: str) -> None:
    (found, *_) = no_secrets.found_in(f"2026-01-01 started\n{line} and more\n")
    for secret in (KEY, JWT, "Z3JhZmFuYTpzZWNyZXQ=", "hunter22", "abcdefghijklmnop"):
        assert secret not in found


@pytest.mark.parametrize(
    "line",
    [
        "started version=0.1.0",
        "key=4f0c2k9x1v7q revoked",
        "give `Authorization: Bearer ms_<id>_<secret>`",
        "auth.admin_key=**********",
        "password=None",
        "GET http://127.0.0.1:8080/api/v1/query?query=up%7Bjob%3D%22x%22%7D 200",
        'WWW-Authenticate: Bearer realm="millstream"',
        "a bearer token is needed",
        "metric ms_requests_total",
    ],
)
def test_what_is_no_secret_is_left_alone(line: str) -> None:
    assert list(no_secrets.found_in(line)) == []


def test_a_registered_value_is_a_secret_whatever_its_form() -> None:
    value = no_secrets.keep_secret("plain-" + "words-" * 3)
    try:
        assert len(list(no_secrets.found_in(f"said {value} aloud"))) == 1
    finally:
        no_secrets._registered.discard(value)


def test_a_test_whose_server_logs_a_secret_fails(tmp_path: Path) -> None:
    (tmp_path / "test_leak.py").write_text(
        "import sys\n"
        "from tests import no_secrets\n"
        f"KEY = {KEY!r}\n"
        "def test_says_it():\n"
        "    sys.stderr.write(KEY)\n"
        "def test_server_says_it(tmp_path):\n"
        "    log = tmp_path / 'server.err'\n"
        "    no_secrets.watch(log)\n"
        "    log.write_text(f'started\\nkey={KEY}\\n')\n"
        "def test_is_quiet():\n"
        "    pass\n"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.no_secrets", "-q", "-rN"),
            *("--rootdir", str(tmp_path), "-p", "no:cacheprovider", str(tmp_path)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "3 passed, 2 errors" in done.stdout
    assert "server.err: an API key" in done.stdout

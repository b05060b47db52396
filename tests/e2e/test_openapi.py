"""The OpenAPI document says what the server does: schemathesis sends what it allows and what it does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services.http import Client
from tests.services.millstream import Millstream

pytestmark = pytest.mark.e2e

HERE = Path(__file__).resolve().parent
ROOT_KEY = "ms_root_b8Wn3vYx0KqZ5rTd"
EXAMPLES = 3
#: Their examples have a secret in the place of one's own.
OWN_SECRETS = ("/v1/auth/token", "/v1/auth/refresh", "/v1/auth/logout", "/v1/auth/password")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millstream]:
    folder = tmp_path_factory.mktemp("openapi")
    env = {
        "MILLSTREAM_AUTH__ADMIN_KEY": ROOT_KEY,
        # Bad credentials are part of the test, from one address and many in a minute.
        "MILLSTREAM_AUTH__FAILED_ATTEMPTS_PER_MINUTE": "60000",
        # Otherwise many answers would only say 429.
        "MILLSTREAM_LIMITS__JSON_REQUESTS_PER_SECOND": "0",
    }
    with Millstream(folder / "data", folder / "logs", env=env) as started:
        yield started


@pytest.fixture(scope="module")
def document(server: Millstream) -> dict[str, Any]:
    with Client(server.url) as client:
        answer = client.get("/openapi.json")
    assert answer.status == 200
    found: dict[str, Any] = answer.json()
    return found


def test_schemathesis_finds_nothing_on_any_route(server: Millstream, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli"),
            *("--config-file", str(HERE / "openapi" / "schemathesis.toml")),
            *("run", f"{server.url}/openapi.json", "--header", f"Authorization: Bearer {ROOT_KEY}"),
            *("--max-examples", str(EXAMPLES), "--generation-deterministic", "--no-color"),
            *("--phases", "examples,coverage,fuzzing", "--workers", "1"),
        ],
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "tests.e2e.openapi.hooks",
            "PYTHONPATH": str(HERE.parents[1]),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    assert "Errors:" not in done.stdout


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def encoded(media: str, example: Any) -> bytes | None:
    if example is None:
        return None
    if media == "application/x-www-form-urlencoded":
        return urllib.parse.urlencode(example, doseq=True).encode()
    return (example if isinstance(example, str) else json.dumps(example)).encode()


def test_every_route_says_which_credentials_it_takes(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    assert {one["type"] for one in schemes.values()} == {"http", "apiKey"}
    public = {path for path, _, operation in operations(document) if operation["security"] == []}
    assert {"/health", "/-/healthy", "/-/ready"} <= public
    assert not [path for path in public if path.startswith(("/api/v1", "/v1/admin"))]
    for _, _, operation in operations(document):
        assert all(set(one) <= set(schemes) for one in operation["security"])


def test_examples_of_the_document_are_answered(
    server: Millstream, document: dict[str, Any]
) -> None:
    """A user pastes the examples as they stand."""
    asked = 0
    headers = {"Authorization": f"Bearer {ROOT_KEY}", "X-Scope-OrgID": "default"}
    with Client(server.url) as client:
        # The topic of the examples.
        made = client.request(
            "POST",
            "/v1/topics",
            body=b'{"name":"orders"}',
            headers={**headers, "Content-Type": "application/json"},
        )
        assert made.status in (201, 409), made.text
        for path, method, operation in operations(document):
            content: dict[str, Any] = operation.get("requestBody", {}).get("content", {})
            media = next(iter(content), "")
            body = content.get(media, {})
            examples = {
                one["name"]: one["example"]
                for one in operation.get("parameters", ())
                if one["in"] == "query" and "example" in one
            }
            if (method == "post" and "example" not in body) or "{" in path or path in OWN_SECRETS:
                continue
            answer = client.request(
                method.upper(),
                path,
                params=examples,
                body=encoded(media, body.get("example")),
                headers={**headers, **({"Content-Type": media} if media else {})},
            )
            # What the same words made before is there already.
            assert answer.status < 300 or answer.status == 409, (method, path, answer.text)
            asked += 1
    assert asked > 25

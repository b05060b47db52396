"""Servers with credentials, and callers with keys, for the tests of who may do what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from millstream_gateway.app import create_app
from millstream_gateway.backends.fake import FakeBackend
from millstream_gateway.backends.protocol import Backend
from millstream_gateway.services.container import Services
from millstream_gateway.settings import AuthSettings, Settings, StorageSettings

ROOT_KEY = "ms_root_Zt5fY0b3QdW8pLr2"
TIME_MS = 1_732_000_000_000
Headers = Mapping[str, str]


def bearer(key: str, tenant: str | None = None) -> dict[str, str]:
    scope = {} if tenant is None else {"X-Scope-OrgID": tenant}
    return {"Authorization": f"Bearer {key}", **scope}


ROOT = bearer(ROOT_KEY)


@dataclass
class Site:
    """An application that asks for keys."""

    app: FastAPI
    client: TestClient
    folder: Path

    @property
    def services(self) -> Services:
        services: Services = self.app.state.services
        return services

    def issue(self, **wanted: Any) -> dict[str, Any]:
        """A new key, as the route answers it."""
        body = {"name": "k", "role": "user", "tenants": ["default"], **wanted}
        answer = self.client.post("/v1/admin/keys", json=body, headers=ROOT)
        assert answer.status_code == 201, answer.text
        issued: dict[str, Any] = answer.json()
        return issued

    def headers(self, **wanted: Any) -> dict[str, str]:
        return bearer(self.issue(**wanted)["key"])

    def get(self, path: str, headers: Headers | None = None) -> int:
        return self.client.get(path, headers=headers).status_code

    def push(self, headers: Headers, name: str, value: float = 1.0, **labels: str) -> int:
        item = {"name": name, "value": value, "timestamp": TIME_MS, "labels": labels}
        return self.client.post("/metrics", json={"metrics": [item]}, headers=headers).status_code

    def names(self, headers: Headers) -> list[str]:
        """The metrics that this caller sees."""
        answer = self.client.get("/api/v1/label/__name__/values", headers=headers)
        assert answer.status_code == 200, answer.text
        found: list[str] = answer.json()["data"]
        return found


def settings_in(folder: Path, **auth: Any) -> Settings:
    return Settings(
        storage=StorageSettings(path=str(folder / "data"), retention="100y"),
        auth=AuthSettings(**auth),
    )


@contextmanager
def site_in(folder: Path, backend: Backend | None = None, **auth: Any) -> Iterator[Site]:
    """A server in this process. ``admin_key=None`` leaves it open."""
    settings = settings_in(folder, **{"admin_key": ROOT_KEY, **auth})
    app = create_app(settings, backend or FakeBackend())
    with TestClient(app) as client:
        yield Site(app, client, folder)

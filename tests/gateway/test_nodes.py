"""What only a backend over gRPC can meet: a node that is not there, and one that goes away."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from millstream import errors
from millstream_gateway.app import create_app
from millstream_gateway.backends.choice import make_backend
from millstream_gateway.schemas.access import DEFAULT_TENANT_ID
from millstream_gateway.schemas.push import WriteBody
from millstream_gateway.settings import NodesSettings, Settings, StorageSettings
from tests.gateway.conftest import needs_node, node

pytestmark = needs_node


def test_without_its_node_the_server_lives_but_is_not_ready() -> None:
    settings = Settings(nodes=NodesSettings(addresses=("127.0.0.1:1",), timeout="2s"))
    with TestClient(create_app(settings)) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/-/ready").status_code == 503
        answer = client.post("/metrics", json={"metrics": []})
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert client.get("/api/v1/query?query=1").json()["errorType"] == "unavailable"
        assert "millstream_engine_up 0.0" in client.get("/metrics").text


def test_what_a_node_stored_is_there_when_it_comes_back(tmp_path: Path) -> None:
    storage = StorageSettings(path=str(tmp_path / "data"))
    with node(storage) as address:
        backend = make_backend(Settings(nodes=NodesSettings(addresses=(address,))))
        backend.open()
        pushed = backend.push(DEFAULT_TENANT_ID, WriteBody("text", b"kept 1\n"))
        assert pushed.samples == 1
        assert pushed.offset_token
    with pytest.raises(errors.UnavailableError):
        backend.check_ready()
    backend.close()
    with node(storage) as address:
        backend = make_backend(Settings(nodes=NodesSettings(addresses=(address,))))
        with TestClient(create_app(backend=backend)) as client:
            assert client.get("/-/ready").status_code == 200
            found = client.get("/api/v1/query?query=kept").json()["data"]["result"]
    assert [item["value"][1] for item in found] == ["1"]

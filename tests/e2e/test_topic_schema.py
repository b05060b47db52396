"""Schemas of topics over sockets: a node that is killed, native frames, the commands, and the verbs of Python."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from websockets.sync.client import connect as websocket

import millstream
from millstream import native
from millstream.errors import InvalidArgumentError
from millstream.v1 import events_pb2 as pb
from millstream.v1 import events_pb2_grpc
from tests.services.millstream import Millstream, topic_command
from tests.services.node import Node

pytestmark = pytest.mark.e2e

SCHEMA = {"required": ["n"], "properties": {"n": {"type": "integer", "minimum": 1}}}
REFUSED = 'at "/n": "minimum": it must be at least 1, not 0'


def submitted(stub: Any, *payloads: bytes, is_json: bool = True) -> list[str]:
    """What came of each: "stored", or why it was refused."""
    sent = [pb.Event(topic="orders", payload=one, is_json=is_json) for one in payloads]
    answers = stub.SubmitEvent(pb.SubmitEventRequest(events=sent), timeout=60).answers
    return [one.refusal.reason if one.HasField("refusal") else "stored" for one in answers]


def test_a_node_holds_its_topics_to_their_schemas_also_after_a_kill(tmp_path: Path) -> None:
    arguments = ("--native", "127.0.0.1:0", "--durability", "fsync")
    node = Node(tmp_path / "data", tmp_path / "logs", arguments=arguments)
    # The generated module has no types.
    make: Any = events_pb2_grpc.EventServiceStub
    try:
        with grpc.insecure_channel(node.address) as channel:
            stub = make(channel)
            made = stub.CreateTopic(
                pb.CreateTopicRequest(name="orders", schema=json.dumps(SCHEMA)), timeout=60
            )
            assert json.loads(made.schema) == SCHEMA
            good, bad, last = submitted(stub, b'{"n":1}', b'{"n":0}', b'{"n":2}')
            assert (good, last) == ("stored", "stored")
            assert REFUSED in bad
            remote = pb.AlterTopicRequest(name="orders", schema='{"$ref":"http://127.0.0.1:1/x"}')
            with pytest.raises(grpc.RpcError) as refused:
                stub.AlterTopic(remote, timeout=60)
            assert "nothing is fetched" in refused.value.details()
        node.kill()
        node = Node(tmp_path / "data", tmp_path / "logs", arguments=arguments)
        with (
            grpc.insecure_channel(node.address) as channel,
            native.connect_events(node.address_of("native")) as client,
        ):
            stub = make(channel)
            client.publish([native.Event("orders", {"n": n}) for n in (3, 0, 4)])
            client.publish([native.Event("orders", b"bytes")])
            totals = client.flush()
            assert (totals.stored, totals.refused) == (2, 2)
            assert REFUSED in totals.refusals[0].reason
            assert "must be JSON" in totals.refusals[1].reason
            stored = [json.loads(event.payload)["n"] for event in client.fetch("orders").events]
            assert stored == [1, 2, 3, 4]
            stub.AlterTopic(pb.AlterTopicRequest(name="orders", schema=""), timeout=60)
            assert submitted(stub, b"bytes", is_json=False) == ["stored"]
    finally:
        node.stop()


def test_the_commands_and_the_verbs_set_a_schema_on_a_server(tmp_path: Path) -> None:
    file = tmp_path / "order.json"
    file.write_text(json.dumps(SCHEMA))
    with (
        Millstream(tmp_path / "data", tmp_path / "logs") as server,
        millstream.connect(server.url) as db,
    ):
        at = ("--server", server.url)
        made = topic_command("create", "orders", "--schema", str(file), *at)
        assert made.returncode == 0, made.stderr
        assert f"schema: {json.dumps(SCHEMA)}\n" in topic_command("describe", "orders", *at).stdout
        published = topic_command("publish", "orders", '{"n": 0}', "--json", *at)
        assert published.returncode == 1
        assert REFUSED in published.stderr
        assert db.topic("orders").describe()["schema"] == SCHEMA
        removed = topic_command("alter", "orders", "--no-schema", "--retention", "1h", *at)
        assert removed.returncode == 0, removed.stderr
        described = db.topic("orders").describe()
        assert (described["schema"], described["retention_ms"]) == (None, 3_600_000)
        changed = topic_command("alter", "orders", "--schema", str(file), *at)
        assert changed.returncode == 0, changed.stderr
        with pytest.raises(InvalidArgumentError, match='"minimum"'):
            db.topic("orders").publish({"n": 0})
        address = server.url.replace("http", "ws", 1) + "/v1/stream"
        with websocket(address, compression=None, proxy=None) as socket:
            socket.send(json.dumps({"op": "publish", "topic": "orders", "payload": {"n": 0}}))
            told = json.loads(socket.recv(60))
            assert (told["type"], told["code"], told["status"]) == (
                "error",
                "INVALID_ARGUMENT",
                400,
            )
            assert REFUSED in told["message"]
        file.write_text('{"type": "strin"}')
        wrong = topic_command("alter", "orders", "--schema", str(file), *at)
        assert wrong.returncode != 0
        assert "/type" in wrong.stderr
        file.write_text("[]")
        assert "a JSON object" in topic_command("create", "b", "--schema", str(file), *at).stderr

        async def asynchronously() -> None:
            async with millstream.aio.connect(server.url) as client:
                topic = client.topic("later")
                assert (await topic.create(schema=SCHEMA))["schema"] == SCHEMA
                first, second = await topic.publish_many([{"n": 1}, {"n": 0}], strict=False)
                assert isinstance(first, millstream.Published)
                assert REFUSED in str(second)
                assert (await topic.alter(schema=None))["schema"] is None

        asyncio.run(asynchronously())

"""Whatever takes events over native frames: a server and a node, and how to make topics there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from millstream.v1 import events_pb2, events_pb2_grpc
from tests.services.http import Client
from tests.services.listeners import Listening
from tests.services.node import Node
from tests.services.process import Process


@dataclass(frozen=True)
class Place:
    """Somewhere that takes events over native frames."""

    process: Process
    address: tuple[str, int]
    metrics_url: str
    create: Callable[..., None]


@contextmanager
def server_place(
    folder: Path, settings: Mapping[str, Any] | None = None, port: int = 0
) -> Iterator[Place]:
    """`millstream serve`; the settings are those of the section `native`."""
    native = {"native": {"port": port, **(settings or {})}}
    with (
        Listening(folder / "data", folder / "logs", native) as started,
        Client(started.url) as client,
    ):

        def create(name: str, **options: object) -> None:
            body = json.dumps({"name": name, **options}).encode()
            told = client.request(
                "POST", "/v1/topics", body=body, headers={"Content-Type": "application/json"}
            )
            assert told.status == 201, told.text

        yield Place(started, started.address_of("native"), started.url, create)


@contextmanager
def node_place(folder: Path, port: int = 0, more: Sequence[str] = ()) -> Iterator[Place]:
    """`millstreamd`, with more arguments."""
    arguments = ["--native", f"127.0.0.1:{port}", *more]
    with (
        Node(folder / "data", folder / "logs", arguments=arguments) as started,
        grpc.insecure_channel(started.address) as channel,
    ):
        # The generated module has no types.
        make: Any = events_pb2_grpc.EventServiceStub
        events = make(channel)

        def create(name: str, **options: Any) -> None:
            events.CreateTopic(events_pb2.CreateTopicRequest(name=name, **options))

        yield Place(started, started.address_of("native"), started.health_url, create)

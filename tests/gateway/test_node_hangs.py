"""A node that takes a subscription and says nothing: whoever asked is told, and no thread is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from millstream.errors import DeadlineExceededError, UnavailableError
from millstream_gateway.backends.nodes import NodesBackend
from millstream_gateway.schemas.access import DEFAULT_TENANT_ID
from millstream_gateway.schemas.events import SubscriptionRequest
from millstream_gateway.settings import NodesSettings


class Silent(grpc.GenericRpcHandler):
    """Every call is a stream without a message, which ends when it is told to."""

    def __init__(self) -> None:
        self.ends = threading.Event()

    def service(self, _details: Any) -> Any:
        def answer(_request: bytes, _context: Any) -> Iterator[bytes]:
            self.ends.wait()
            return iter(())

        return grpc.unary_stream_rpc_method_handler(answer)


@pytest.fixture
def node() -> Iterator[tuple[Silent, str]]:
    silent = Silent()
    server = grpc.server(ThreadPoolExecutor(2), handlers=(silent,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield silent, f"127.0.0.1:{port}"
    silent.ends.set()
    server.stop(None).wait()


def subscribe(address: str, timeout: str) -> None:
    backend = NodesBackend(NodesSettings(addresses=(address,), timeout=timeout))
    backend.open()
    try:
        notifier = backend.events.make_notifier()
        backend.events.subscribe(DEFAULT_TENANT_ID, SubscriptionRequest(("t",)), notifier)
    finally:
        backend.close()


def test_a_subscription_that_a_node_does_not_answer_is_given_up(node: tuple[Silent, str]) -> None:
    with pytest.raises(DeadlineExceededError, match=r"nodes\.timeout"):
        subscribe(node[1], "300ms")


def test_a_subscription_that_a_node_ends_at_once_is_an_error(node: tuple[Silent, str]) -> None:
    node[0].ends.set()
    with pytest.raises(UnavailableError, match="before it began"):
        subscribe(node[1], "20s")

"""The clients of native frames, before a server that does what it likes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from millstream import _core, native
from millstream.errors import DeadlineExceededError, MillstreamError

WELCOME = _core.native_welcome(4, 1000)
#: A client, and a call for which it waits for an answer.
Made = Callable[[tuple[str, int]], tuple[native.Client | native.EventClient, Callable[[], object]]]


def samples(address: tuple[str, int]) -> tuple[native.Client, Callable[[], object]]:
    client = native.Client(address, timeout=0.3)

    def write() -> object:
        client.write(client.series([{"__name__": "m"}]), [1], [1.0])
        return client.flush()

    return client, write


def events(address: tuple[str, int]) -> tuple[native.EventClient, Callable[[], object]]:
    client = native.EventClient(address, timeout=0.3)
    return client, lambda: client.fetch("t")


class Says:
    """Says the same on every connection, and then nothing."""

    def __init__(self, words: bytes) -> None:
        self._words = words
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    def _accept(self) -> None:
        while True:
            try:
                taken, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(taken)
            taken.sendall(self._words)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        for one in self._sockets:
            one.close()


@pytest.fixture
def says() -> Iterator[Callable[[bytes], tuple[str, int]]]:
    made: list[Says] = []

    def make(words: bytes) -> tuple[str, int]:
        made.append(Says(words))
        return made[-1].address

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("make", [samples, events])
def test_a_server_that_falls_silent_is_left_and_asked_anew(
    says: Callable[[bytes], tuple[str, int]], make: Made
) -> None:
    client, call = make(says(WELCOME))
    for connections in (1, 2):
        with pytest.raises(DeadlineExceededError):
            call()
        assert client.connections == connections
        assert client._socket is None


@pytest.mark.parametrize("make", [samples, events])
def test_what_is_no_server_of_native_frames_is_left_at_once(
    says: Callable[[bytes], tuple[str, int]], make: Made
) -> None:
    client, call = make(says(WELCOME + b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    with pytest.raises(MillstreamError) as caught:
        call()
    assert not isinstance(caught.value, DeadlineExceededError)
    assert client._socket is None


def test_credit_is_given_however_long_ago_the_last_call_was(
    says: Callable[[bytes], tuple[str, int]],
) -> None:
    client = native.EventClient(says(WELCOME), timeout=5.0)
    client.open()
    tail = native.EventSubscription(
        client, 1, ["t"], offsets="latest", filter="", on_slow="block", lag_max=0, credit=2
    )
    tail.take_in([("id", "t", 0, 0, 0, None, [], b"x", False)], 0)
    # As after a pause of the reader.
    client._deadline = 0.0
    (event,) = tail.poll()
    assert event.payload == b"x"
    assert client._socket is not None
    client.close()

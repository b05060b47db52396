"""The clients of native frames, before a server that does what it likes."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from millstream import _core, native
from millstream.errors import Code, DeadlineExceededError, MillstreamError, UnavailableError

WELCOME = _core.native_welcome(4, 1000)
#: A client, and a call for which it waits for an answer.
Made = Callable[[tuple[str, int]], tuple[native.Client | native.EventClient, Callable[[], object]]]


def samples(address: tuple[str, int]) -> tuple[native.Client, Callable[[], object]]:
    client = native.Client(address)

    def write() -> object:
        client.write(client.series([{"__name__": "m"}]), [1], [1.0])
        return client.flush()

    return client, write


def events(address: tuple[str, int]) -> tuple[native.EventClient, Callable[[], object]]:
    client = native.EventClient(address)
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
            with suppress(OSError):
                self._serve(taken)

    def _serve(self, taken: socket.socket) -> None:
        """Go on with a connection."""

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
    for _ in range(2):
        connections = client.connections
        # With the time that it takes: only the silence is to end the call.
        client._timeout = 30.0
        client.open()
        assert client.connections == connections + 1
        client._timeout = 1.0
        with pytest.raises(DeadlineExceededError):
            call()
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


WRITE, PUBLISH = 0x03, 0x10


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def published(sequence: int, code: Code | None, reason: str = "") -> bytes:
    """About one event: it is stored, or was refused."""
    run = bytes([1, 0, 1, 0, 0]) if code is None else bytes([1, code, len(reason)])
    payload = struct.pack("<QBB", sequence, 0, 1) + run + reason.encode()
    head = struct.pack("<IBBBB", len(payload), 0x90, 0, 0, 0)
    return head + struct.pack("<I", crc32c(head + payload)) + payload


class Refuses(Says):
    """A server with one partition, which refuses some of what comes, counted from 1, for now."""

    def __init__(self, *busy: int, code: Code, retry_after_ms: int) -> None:
        self._busy = set(busy)
        self._code = code
        self._retry_after_ms = retry_after_ms
        self._frames = 0
        #: The numbers of the events that were taken.
        self.taken: list[int] = []
        super().__init__(WELCOME)

    def _serve(self, taken: socket.socket) -> None:
        with taken.makefile("rb") as stream:
            while head := stream.read(12):
                payload = stream.read(struct.unpack("<I", head[:4])[0])
                if head[4] in (WRITE, PUBLISH):
                    self._frames += 1
                    taken.sendall(self._answer(head[4], payload))

    def _answer(self, kind: int, payload: bytes) -> bytes:
        sequence = struct.unpack("<Q", payload[:8])[0]
        if self._frames in self._busy:
            return _core.native_refused(sequence, self._code, self._retry_after_ms, "busy")
        if kind == WRITE:
            return _core.native_ack(sequence, 1, 0, [])
        # As the engine: any first number, then one after the other.
        number = int(payload[-1:])
        if self.taken and number > self.taken[-1] + 1:
            return published(sequence, Code.ABORTED, "gap")
        if self.taken and number <= self.taken[-1]:
            return published(sequence, Code.OUT_OF_RANGE, "forgotten")
        self.taken.append(number)
        return published(sequence, None)


@pytest.fixture
def refuses() -> Iterator[Callable[..., Refuses]]:
    made: list[Refuses] = []

    def make(*busy: int, code: Code = Code.RESOURCE_EXHAUSTED, retry_after_ms: int = 1) -> Refuses:
        made.append(Refuses(*busy, code=code, retry_after_ms=retry_after_ms))
        return made[-1]

    yield make
    for one in made:
        one.close()


def numbered(number: int) -> native.Event:
    return native.Event("t", str(number).encode(), partition=0, sequence=number)


@pytest.mark.parametrize("busy", [(1,), (2,), (3,), (1, 2, 3), (2, 5), (2, 4, 6)], ids=str)
def test_a_producer_that_is_refused_for_now_goes_again_in_the_order_of_its_numbers(
    refuses: Callable[..., Refuses], busy: tuple[int, ...]
) -> None:
    server = refuses(*busy)
    with native.EventClient(server.address, producer=("p", 0)) as client:
        for number in range(5):
            client.publish(numbered(number))
        totals = client.flush()
    assert (totals.stored, totals.refused) == (5, 0), totals.refusals
    assert server.taken == list(range(5))


def test_a_gap_in_what_a_producer_numbers_itself_is_refused(
    refuses: Callable[..., Refuses],
) -> None:
    with native.EventClient(refuses().address, producer=("p", 0)) as client:
        for number in (0, 1, 5):
            client.publish(numbered(number))
        totals = client.flush()
    assert (totals.stored, [one.code for one in totals.refusals]) == (2, ["ABORTED"])


def test_what_is_refused_for_now_outlives_a_call_without_the_time_to_wait(
    refuses: Callable[..., Refuses],
) -> None:
    server = refuses(1, 2, retry_after_ms=60_000)
    client = native.EventClient(server.address, timeout=30.0)
    client.publish(native.Event("t", b"0"))
    client.publish(native.Event("t", b"1"))
    # Both refusals have come, so that the call waits for nothing but to send again.
    client._until(lambda: len(client._waiting) == 2)
    client._timeout = 0.2
    with pytest.raises(DeadlineExceededError):
        client.flush()
    client._timeout = 30.0
    # As when the time has passed that the server asked for.
    client._due = 0.0
    totals = client.flush()
    client.close()
    assert (totals.stored, client.connections) == (2, 1)
    assert server.taken == [0, 1]


def test_samples_that_are_refused_for_now_go_again(refuses: Callable[..., Refuses]) -> None:
    with native.Client(refuses(1, 2, 4).address) as client:
        refs = client.series([{"__name__": "m"}])
        for at in range(3):
            client.write(refs, [at], [1.0])
        assert client.flush().samples == 3


def test_samples_that_are_refused_for_longer_than_a_call_may_take_are_an_error(
    refuses: Callable[..., Refuses],
) -> None:
    server = refuses(1, code=Code.UNAVAILABLE, retry_after_ms=60_000)
    client = native.Client(server.address, timeout=20.0)
    client.write(client.series([{"__name__": "m"}]), [1], [1.0])
    with pytest.raises(UnavailableError, match="busy"):
        client.flush()
    assert client.connections == 1
    client.close()

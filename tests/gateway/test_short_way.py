"""The short way of small writes: whoever takes it cannot tell, and nothing slips through on it."""

from __future__ import annotations

import fcntl
import re
import socket
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from millstream.errors import ResourceExhaustedError
from millstream_gateway.backends.fake import FakeBackend
from millstream_gateway.schemas.access import TenantId
from millstream_gateway.schemas.push import PushOutcome, WriteBody
from millstream_gateway.settings import AuthSettings, LimitsSettings, ServerSettings, Settings
from millstream_gateway.short_way import ShortWay
from tests.gateway.access_support import ROOT_KEY
from tests.gateway.conftest import running, wait_until
from tests.gateway.wire import snappy, write_request

GOOD = b'{"metrics":[{"name":"m","value":1.5,"timestamp":1732000000000,"labels":{"a":"b"}}]}'
PARTLY = b'{"metrics":[{"name":"m","value":1,"timestamp":1732000000000},{"name":"m"}]}'
NONE_GOOD = b'{"metrics":[{"name":"m"}]}'
KEY = ROOT_KEY.encode()


def request(
    body: bytes = GOOD, *headers: bytes, path: bytes = b"/metrics", key: bytes = KEY
) -> bytes:
    lines = [b"POST %s HTTP/1.1" % path, b"Host: localhost", *headers]
    if key:
        lines.append(b"Authorization: Bearer " + key)
    lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def remote_write(
    *headers: bytes, body: bytes | None = None, message: bytes = b"", version: bytes = b"0.1.0"
) -> bytes:
    given = [
        b"Content-Encoding: snappy",
        b"Content-Type: application/x-protobuf" + message,
        b"User-Agent: Prometheus/3.15.0",
        b"X-Prometheus-Remote-Write-Version: " + version,
    ]
    if body is None:
        body = snappy(write_request(({"__name__": "m"}, [(1_732_000_000_000, 1.0)])))
    return request(body, *given, *headers, path=b"/api/v1/write")


def read_answer(connection: socket.socket, received: bytearray) -> tuple[bytes, bytes]:
    """One answer, its head and its body; both empty at the end of the connection."""
    while True:
        head, separator, rest = bytes(received).partition(b"\r\n\r\n")
        found = re.search(rb"(?i)content-length: (\d+)", head)
        length = int(found[1]) if found else 0
        if separator and len(rest) >= length:
            del received[: len(head) + 4 + length]
            return head, rest[:length]
        chunk = connection.recv(65536)
        if not chunk:
            return b"", b""
        received += chunk


def talk(port: int, sendings: list[bytes], answers: int) -> list[tuple[bytes, bytes]]:
    """What is answered on one connection, each sending after the answer to the one before."""
    received = bytearray()
    found: list[tuple[bytes, bytes]] = []
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for sending in sendings:
            connection.sendall(sending)
            if len(found) < answers:
                found.append(read_answer(connection, received))
        while len(found) < answers:
            found.append(read_answer(connection, received))
    return found


def comparable(answer: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """Without what no two answers share: dates, numbers of requests, what is left of a limit."""
    head, body = answer
    head = re.sub(rb"(?m)^date: .*\r", b"date: D\r", head)
    head = re.sub(rb"x-correlation-id: [0-9a-f]{32}", b"x-correlation-id: C", head)
    return re.sub(rb";[rt]=\d+", b"", head), re.sub(rb"[0-9a-f]{32}", b"C", body)


def wait_until_received(connection: socket.socket) -> None:
    """Until the peer has acknowledged all that was sent: what follows is another segment."""
    wait_until(lambda: fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0" * 4) == b"\0" * 4)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bodies that took the short way."""
    bodies: list[bytes] = []
    take = ShortWay.take

    def noted(self: ShortWay, visitor: object, body: bytes, *rest: object) -> bool:
        was_taken = take(self, visitor, body, *rest)  # type: ignore[arg-type]
        if was_taken:
            bodies.append(body)
        return was_taken

    monkeypatch.setattr(ShortWay, "take", noted)
    return bodies


@contextmanager
def server(
    folder: Path,
    backend: FakeBackend | None = None,
    *,
    short_way: bool = True,
    limits: LimitsSettings | None = None,
    keep_alive: str = "75s",
    body_timeout: str = "30s",
) -> Iterator[int]:
    settings = Settings(
        auth=AuthSettings(admin_key=ROOT_KEY),
        limits=limits or LimitsSettings(),
        server=ServerSettings(keep_alive=keep_alive, body_timeout=body_timeout),
    )
    settings = settings.model_copy(
        update={"storage": settings.storage.model_copy(update={"path": str(folder)})}
    )
    with running(settings, backend or FakeBackend(), short_way=short_way) as port:
        yield port


# What is sent on one connection, and how many of the bodies take the short way. The first request of a
# caller never does: its credentials have to be looked at.
CASES = {
    "good": ([request()] * 4, 3),
    "lengths differ": ([request(GOOD + b" " * (n % 3)) for n in range(6)], 5),
    "partly good": ([request(PARTLY)] * 3, 2),
    "none good": ([request(NONE_GOOD)] * 3, 2),
    "no JSON": ([request(b"{")] * 3, 2),
    "content type": ([request(GOOD, b"Content-Type: application/json")] * 3, 2),
    "form": ([request(GOOD, b"Content-Type: application/x-www-form-urlencoded")] * 3, 0),
    "correlation id": ([request(GOOD, b"X-Correlation-ID: mine-1")] * 3, 2),
    "bad correlation id": ([request(GOOD, b"X-Correlation-ID: a b")] * 3, 2),
    "origin": ([request(GOOD, b"Origin: https://example.org")] * 3, 0),
    "gzip": ([request(GOOD, b"Content-Encoding: gzip")] * 3, 0),
    "any other header": ([request(GOOD, b"Traceparent: 00-1-2-01")] * 3, 0),
    "tenant": ([request(GOOD, b"X-Scope-OrgID: default")] * 3, 2),
    "no such tenant": ([request(GOOD, b"X-Scope-OrgID: ../x")] * 3, 0),
    "two tenants": ([request(GOOD, b"X-Scope-OrgID: a|b")] * 3, 0),
    "bad key": ([request(key=b"ms_wrong")] * 3, 0),
    "no key": ([request(key=b"")] * 3, 0),
    "two keys": ([request(GOOD, b"X-API-Key: other")] * 3, 0),
    "key as header": ([request(GOOD, b"X-API-Key: " + KEY, key=b"")] * 3, 2),
    "query": ([request(path=b"/metrics?a=b")] * 3, 0),
    "another path": ([request(b"m 1\n", path=b"/api/v1/import/prometheus")] * 3, 0),
    "empty": ([request(b"")] * 3, 0),
    "expects to be asked": ([request(GOOD, b"Expect: 200-never")] * 2, 0),
    "http 1.0": ([request().replace(b"HTTP/1.1", b"HTTP/1.0")], 0),
    "remote write": ([remote_write()] * 4, 3),
    "remote write, refused in part": (
        [remote_write(body=snappy(write_request(({"a": "b"}, [(1, 1.0)]))))] * 3,
        2,
    ),
    "remote write, not snappy": ([remote_write(body=b"\xff" * 20)] * 3, 2),
    "remote write, too large unpacked": ([remote_write(body=b"\xff\xff\xff\xff\x0f123")] * 3, 0),
    "remote write, sent again": ([remote_write(b"Retry-Attempt: 1")] * 3, 0),
    "remote write, another version": ([remote_write(version=b"9.0.0")] * 3, 0),
    "remote write, another message": ([remote_write(message=b";proto=x.y")] * 3, 0),
    "remote write 2, of what is 1": (
        [remote_write(message=b";proto=io.prometheus.write.v2.Request", version=b"2.0.0")] * 3,
        2,
    ),
    "content type twice": (
        [request(GOOD, b"Content-Type: application/json", b"Content-Type: text/plain")] * 3,
        0,
    ),
    "blank lines between": ([request() + b"\r\n"] * 4, 3),
    "a blank line before": ([b"\r\n" + request()] * 4, 3),
}


@pytest.mark.parametrize("case", CASES)
def test_the_answers_are_those_of_the_usual_way(
    case: str, tmp_path: Path, taken: list[bytes]
) -> None:
    sendings, short = CASES[case]
    with server(tmp_path / "a", short_way=False) as port:
        usual = talk(port, sendings, len(sendings))
    assert not taken
    with server(tmp_path / "b") as port:
        found = talk(port, sendings, len(sendings))
    assert len(taken) == short
    assert [comparable(one) for one in found] == [comparable(one) for one in usual]


def test_pipelined_requests_are_answered_in_their_order(tmp_path: Path) -> None:
    with server(tmp_path) as port:
        bodies = [GOOD, NONE_GOOD, GOOD, b"{", GOOD]
        answers = talk(port, [request(), b"".join(map(request, bodies))], 6)
    assert [head[9:12] for head, _ in answers] == [b"200", b"200", b"400", b"200", b"400", b"200"]


def test_requests_in_pieces_are_answered_all_the_same(tmp_path: Path, taken: list[bytes]) -> None:
    with server(tmp_path) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = bytearray()
        for cut in (0, 5, len(request()) - len(GOOD), len(request()) - 1, 0):
            connection.sendall(request()[:cut])
            connection.sendall(request()[cut:])
            assert read_answer(connection, received)[0].startswith(b"HTTP/1.1 200")
    assert len(taken) == 4


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The URLs of the heads that were parsed."""
    urls: list[bytes] = []
    meet = ShortWay.meet

    def noted(self: ShortWay, url: bytes, *rest: object) -> object:
        urls.append(url)
        return meet(self, url, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(ShortWay, "meet", noted)
    return urls


def test_a_known_head_is_not_parsed_again_though_its_body_comes_in_pieces(
    tmp_path: Path, taken: list[bytes], parsed: list[bytes]
) -> None:
    head = len(request()) - len(GOOD)
    with server(tmp_path) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = bytearray()
        for number in range(6):
            for part in (request()[:head], GOOD[:9], GOOD[9:20], GOOD[20:]):
                connection.sendall(part)
                # So that each piece is received by itself.
                wait_until_received(connection)
            assert read_answer(connection, received)[0].startswith(b"HTTP/1.1 200"), number
    assert taken == [GOOD] * 5
    assert len(parsed) == 2


def test_more_than_a_known_head_announced_goes_to_the_parser_and_is_answered_in_order(
    tmp_path: Path,
) -> None:
    head = len(request()) - len(GOOD)
    behind = request(b"{", b"X-Correlation-ID: second") + request()
    with server(tmp_path) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = bytearray()
        for _ in range(2):
            connection.sendall(request())
            assert read_answer(connection, received)[0].startswith(b"HTTP/1.1 200")
        for _ in range(3):
            connection.sendall(request()[: head + 7])
            wait_until_received(connection)
            connection.sendall(GOOD[7:] + behind)
            answers = [read_answer(connection, received) for _ in range(3)]
            assert [one[9:12] for one, _ in answers] == [b"200", b"400", b"200"]
            assert b"x-correlation-id: second" in answers[1][0]


def test_a_known_head_whose_body_stops_coming_is_cut_off(tmp_path: Path) -> None:
    limits = LimitsSettings(ingest_bytes_in_flight=200_000)
    body = GOOD + b" " * 150_000
    with server(tmp_path, limits=limits, body_timeout="300ms") as port:
        received = bytearray()
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            for _ in range(3):
                connection.sendall(request(body))
                assert read_answer(connection, received)[0].startswith(b"HTTP/1.1 200")
            connection.sendall(request(body)[:-1000])
            assert connection.recv(65536).startswith(b"HTTP/1.1 408")
        assert talk(port, [request(), request(body)], 2)[1][0].startswith(b"HTTP/1.1 200")


def test_a_body_that_stops_coming_is_cut_off_and_its_room_given_back(tmp_path: Path) -> None:
    limits = LimitsSettings(ingest_bytes_in_flight=200_000)
    body = GOOD + b" " * 150_000
    with server(tmp_path, limits=limits, body_timeout="300ms") as port:
        received = bytearray()
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(request())
            assert read_answer(connection, received)[0].startswith(b"HTTP/1.1 200")
            connection.sendall(request(body)[:-1000])
            assert connection.recv(65536).startswith(b"HTTP/1.1 408")
        assert talk(port, [request(), request(body)], 2)[1][0].startswith(b"HTTP/1.1 200")


def test_bodies_on_their_way_share_one_budget(tmp_path: Path) -> None:
    limits = LimitsSettings(ingest_bytes_in_flight=200_000)
    body = GOOD + b" " * 150_000
    with server(tmp_path, limits=limits) as port:
        talk(port, [request()], 1)
        with socket.create_connection(("127.0.0.1", port), timeout=20) as first:
            first.sendall(request(body)[:-1])
            wait_until(lambda: talk(port, [request(body)], 1)[0][0].startswith(b"HTTP/1.1 503"))
            first.sendall(request(body)[-1:])
            assert read_answer(first, bytearray())[0].startswith(b"HTTP/1.1 200")
        assert talk(port, [request(body)], 1)[0][0].startswith(b"HTTP/1.1 200")


def test_what_follows_a_known_head_is_never_taken_for_a_body(tmp_path: Path) -> None:
    """A body that is longer than its head says belongs to the next request, however often."""
    smuggled = request(GOOD) + request(b"{", b"X-Correlation-ID: second")
    with server(tmp_path) as port:
        answers = talk(port, [request(), request(), smuggled, smuggled], 6)
    assert [head[9:12] for head, _ in answers] == [
        *[b"200"] * 3,
        b"400",
        b"200",
        b"400",
    ]
    assert b"x-correlation-id: second" in answers[3][0]


def test_a_limit_counts_every_request_once(tmp_path: Path) -> None:
    # A busy machine may take its time: there are half a minute's requests too many.
    limits = LimitsSettings(json_requests_per_second=1, burst="60s")
    with server(tmp_path, limits=limits) as port:
        answers = talk(port, [request()] * 90, 90)
    codes = [head[9:12] for head, _ in answers]
    assert codes[:60] == [b"200"] * 60
    assert b"429" in codes[60:]
    refused = next(head for head, _ in answers if head[9:12] == b"429")
    assert b"retry-after" in refused


def test_a_key_that_was_revoked_gets_in_no_more(tmp_path: Path) -> None:
    with server(tmp_path) as port:

        def admin(method: bytes, path: bytes, body: bytes = b"") -> bytes:
            asked = request(body, b"Content-Type: application/json", path=path)
            return talk(port, [asked.replace(b"POST", method, 1)], 1)[0][1]

        issued = admin(
            b"POST", b"/v1/admin/keys", b'{"name":"k","role":"user","tenants":["default"]}'
        )
        key_id = re.search(rb'"id":"(\w+)"', issued)
        key = re.search(rb'"key":"(\w+)"', issued)
        assert key_id is not None
        assert key is not None
        received = bytearray()
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            for _ in range(4):
                connection.sendall(request(key=key[1]))
                assert read_answer(connection, received)[0].startswith(b"HTTP/1.1 200")
            admin(b"DELETE", b"/v1/admin/keys/" + key_id[1])
            connection.sendall(request(key=key[1]))
            assert read_answer(connection, received)[0].startswith(b"HTTP/1.1 401")


class Slow(FakeBackend):
    """Stores nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go = threading.Event()
        self.waiting = threading.Semaphore(0)

    def push(self, tenant: TenantId, write: WriteBody) -> PushOutcome:
        self.waiting.release()
        assert self.may_go.wait(20)
        return super().push(tenant, write)


class Full(FakeBackend):
    def push(self, tenant: TenantId, write: WriteBody) -> PushOutcome:
        raise ResourceExhaustedError("the disk is full")


def test_what_the_store_refuses_is_told_as_on_the_usual_way(
    tmp_path: Path, taken: list[bytes]
) -> None:
    with server(tmp_path / "a", Full(), short_way=False) as port:
        usual = talk(port, [request()] * 3, 3)
    with server(tmp_path / "b", Full()) as port:
        found = talk(port, [request()] * 3, 3)
    assert len(taken) == 2
    assert [comparable(one) for one in found] == [comparable(one) for one in usual]


def test_a_server_that_stops_answers_what_it_has_taken(tmp_path: Path, taken: list[bytes]) -> None:
    backend = Slow()
    backend.may_go.set()
    answers: list[tuple[bytes, bytes]] = []
    with server(tmp_path, backend) as port:
        connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        connection.sendall(request())
        read_answer(connection, bytearray())
        backend.may_go.clear()
        connection.sendall(request())
        wait_until(lambda: len(taken) == 1)

        def finish() -> None:
            answers.append(read_answer(connection, bytearray()))

        reader = threading.Thread(target=finish)
        reader.start()
        timer = threading.Timer(0.3, backend.may_go.set)
        timer.start()
    reader.join(20)
    connection.close()
    assert answers[0][0].startswith(b"HTTP/1.1 200")


def test_a_client_that_leaves_harms_nobody(tmp_path: Path, taken: list[bytes]) -> None:
    backend = Slow()
    backend.may_go.set()
    with server(tmp_path, backend) as port:
        talk(port, [request()] * 2, 2)
        backend.may_go.clear()
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(request())
            wait_until(lambda: len(taken) == 2)
        backend.may_go.set()
        assert talk(port, [request()] * 2, 2)[1][0].startswith(b"HTTP/1.1 200")


def test_idle_connections_are_closed_in_time(tmp_path: Path) -> None:
    with (
        server(tmp_path, keep_alive="1s") as port,
        socket.create_connection(("127.0.0.1", port), timeout=20) as connection,
    ):
        received = bytearray()
        for _ in range(3):
            connection.sendall(request())
            assert read_answer(connection, received)[0].startswith(b"HTTP/1.1 200")
        assert connection.recv(1) == b""

"""What the clients of native frames have in common: see `millstream.native`."""

from __future__ import annotations

import secrets
import socket
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import ClassVar, Final, Generic, Self, TypeVar

from millstream import _core
from millstream.errors import (
    Code,
    DataLossError,
    DeadlineExceededError,
    InvalidArgumentError,
    MillstreamError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    error_class,
)

#: What may go better later.
RETRYABLE: Final = frozenset(
    {Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.ABORTED}
)
#: Refusals that a client keeps for whoever asks.
REFUSALS_MAX: Final = 100
WAIT_SECONDS_MIN: Final = 0.05
_WAIT_SECONDS_MAX: Final = 2.0

Address = str | tuple[str, int]
Answer = tuple[object, ...]
B = TypeVar("B")


class RefusedForGoodError(Exception):
    """Carries an error past what takes some of that class for a broken connection."""

    def __init__(self, error: MillstreamError) -> None:
        super().__init__(error.message)
        self.error = error


class Connection(ABC, Generic[B]):
    """A TCP connection that is made anew when it breaks; then what was not answered goes again.

    ``B`` is what goes under one sequence. Sequences ascend; answers come in their order. What is
    refused for now waits, and goes again in its order as soon as it may and everything else is
    answered: until then nothing new goes, so that nothing comes before it.

    Threads  One at a time.
    """

    #: How much is read at a time.
    _read_bytes: ClassVar[int] = 1 << 16

    def __init__(
        self,
        address: Address,
        *,
        key: str = "",
        tenant: str = "",
        name: str = "millstream.native",
        timeout: float = 30.0,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
    ) -> None:
        self._address = host_and_port(address)
        self._tls = tls
        self._server_name = server_name or self._address[0]
        self._hello = _core.native_hello(key, tenant, name)
        self._timeout = timeout
        self._deadline = 0.0
        self._socket: socket.socket | None = None
        self._reader = _core.NativeAnswerReader()
        self._sequence = 0
        self._unanswered: dict[int, B] = {}
        # What was refused for now, in its order, and when it goes again.
        self._waiting: list[B] = []
        self._due = 0.0
        # How many may be unanswered, and how long one frame may be, as the server says.
        self._window = 0
        self._frame_bytes = 0
        #: How often a connection was made.
        self.connections = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._wait_for_all()
        finally:
            self.close()

    def open(self) -> None:
        """Connect now, and not first when something is sent."""
        self._start()
        self._until(lambda: self._socket is not None)

    def close(self) -> None:
        """Let go of the connection; what `flush` did not wait for may be lost."""
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    @abstractmethod
    def _frames(self, sequence: int, batch: B) -> Iterable[bytes]:
        """What carries a batch."""

    def _resume(self) -> Iterator[bytes]:
        """What goes first over a new connection: what nobody answered, in order."""
        for sequence, batch in list(self._unanswered.items()):
            yield from self._frames(sequence, batch)

    @abstractmethod
    def _handle(self, answer: Answer) -> None:
        """An answer that is about what this client sent."""

    def _forget(self) -> None:
        """Send nothing again: the server wants none of it."""
        self._unanswered.clear()
        self._waiting.clear()

    def _start(self) -> None:
        """A call begins, which may take its time from now on."""
        self._deadline = time.monotonic() + self._timeout

    def _left(self) -> float:
        """How many seconds the call that runs may still take."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise DeadlineExceededError(
                f"no answer from {self._address[0]}:{self._address[1]} within {self._timeout} s"
            )
        return left

    def _wait_for_all(self) -> None:
        self._start()
        self._until(lambda: not self._unanswered and not self._waiting)

    def _until(self, done: Callable[[], bool]) -> None:
        """Handle answers until something is so, over a new connection where one is needed."""
        wait = WAIT_SECONDS_MIN
        while not done():
            left = self._left()
            try:
                if self._socket is None:
                    self._connect(left)
                    wait = WAIT_SECONDS_MIN
                elif not self._go_on(left) and not self._is_pausing():
                    # Who gives no answer in time may be gone for good.
                    self.close()
            except RefusedForGoodError as refused:
                raise refused.error from None
            except ssl.SSLCertVerificationError as error:
                self.close()
                raise UnauthenticatedError(f"the server's certificate: {error}") from None
            except (OSError, UnavailableError):
                self.close()
                # Others wait for the same server to come back.
                time.sleep(min(wait * (0.5 + secrets.randbelow(1024) / 1024), left))
                wait = min(2 * wait, _WAIT_SECONDS_MAX)

    def _go_on(self, seconds: float) -> bool:
        """Handle answers, or send again what waited long enough; False when neither in time."""
        if not self._is_pausing():
            return self._read_answers(seconds)
        pause = self._due - time.monotonic()
        if pause <= 0:
            self._send_waiting()
            return True
        return self._read_answers(min(seconds, pause)) or pause < seconds

    def _is_pausing(self) -> bool:
        """Whether it is not the server that is waited for."""
        return bool(self._waiting) and not self._unanswered

    def _wait_with(self, batch: B, seconds: float) -> None:
        """The batch goes again, not before so many seconds."""
        self._waiting.append(batch)
        self._due = max(self._due, time.monotonic() + seconds)

    def _send_waiting(self) -> None:
        again: dict[int, B] = {}
        for batch in self._waiting:
            # Sequences ascend, so it goes as a new one.
            self._sequence += 1
            again[self._sequence] = batch
        self._waiting.clear()
        self._unanswered |= again
        for sequence, batch in again.items():
            self._send(self._frames(sequence, batch))

    def _connect(self, seconds: float) -> None:
        sock = socket.create_connection(self._address, timeout=seconds)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_hostname=self._server_name)
            self._reader = _core.NativeAnswerReader()
            sock.sendall(self._hello)
            self._socket = sock
            self._window = 0
            while not self._window:
                self._read_answers(self._left())
            self.connections += 1
            sock.settimeout(self._left())
            for frame in self._resume():
                sock.sendall(frame)
        except BaseException:
            self._socket = None
            sock.close()
            raise

    def _send(self, frames: Iterable[bytes]) -> None:
        """Send, or let the connection go: what is unanswered goes again with the next one."""
        if self._socket is None:
            return
        try:
            self._socket.settimeout(self._left())
            for frame in frames:
                self._socket.sendall(frame)
        except (OSError, DeadlineExceededError):
            self.close()

    def _read_answers(self, seconds: float) -> bool:
        """Handle the answers that are there, or wait for some; False when none came in time."""
        sock = self._socket
        if sock is None:
            raise UnavailableError("there is no connection")
        until = time.monotonic() + seconds
        answer = self._read(b"")
        while answer is None:
            sock.settimeout(max(until - time.monotonic(), 0.0))
            try:
                data = sock.recv(self._read_bytes)
            except (TimeoutError, BlockingIOError, ssl.SSLWantReadError):
                return False
            if not data:
                raise UnavailableError("the server closed the connection")
            answer = self._read(data)
        while answer is not None:
            self._take(answer)
            answer = self._read(b"") if self._socket is sock else None
        return True

    def _read(self, data: bytes) -> Answer | None:
        """Take bytes; the next answer, when it has come whole."""
        try:
            if data:
                self._reader.feed(data)
            answer: Answer | None = self._reader.next()
        except (DataLossError, InvalidArgumentError, ResourceExhaustedError):
            # What answers is no server of native frames, or its bytes came to harm.
            self.close()
            raise
        return answer

    def _take(self, answer: Answer) -> None:
        match answer:
            case ("welcome", int(window), int(frame_bytes), int()):
                self._window, self._frame_bytes = window, frame_bytes
            case ("error", int(code), str(reason)):
                self.close()
                if Code(code) in RETRYABLE:
                    raise UnavailableError(reason)
                self._forget()
                raise error_class(code)(reason)
            case _:
                self._handle(answer)


class Datagrams:
    """What sends datagrams that say who sends them, and count up.

    Threads  One at a time.
    """

    def __init__(self, address: Address, *, key: str = "", tenant: str = "") -> None:
        self._address = host_and_port(address)
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._key, self._tenant = key, tenant
        self._client = secrets.randbits(64)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def _sender(self) -> tuple[int, int, str, str]:
        """What a datagram says of who sends it, and of its place among theirs."""
        return self._client, self._sequence, self._key, self._tenant

    def _send(self, datagram: bytes) -> None:
        self._sequence += 1
        self._socket.sendto(datagram, self._address)


def host_and_port(address: Address) -> tuple[str, int]:
    """Of ``host:port``; a pair is one already."""
    if not isinstance(address, str):
        return address
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit():
        raise InvalidArgumentError(f"{address!r} is not host:port")
    return host.strip("[]"), int(port)

"""Certificates of a throw-away CA, and clients that speak TLS by hand."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from millstream._certificates import Pair, Usage, issue, make_authority, write_files

LOCAL = ("localhost", "127.0.0.1")


class Authority:
    """A CA whose certificates land as files in one folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self.pair = make_authority(f"test-{name}", 10)
        self.ca = folder / f"{name}.pem"
        write_files(folder, self.pair.files(name), force=True)

    def issue(
        self, name: str, names: Sequence[str] = LOCAL, usage: Usage = "both"
    ) -> tuple[Path, Path]:
        """Files of a new certificate and its key; those of the same name are replaced."""
        return self.put(name, issue(self.pair, name, names, usage, 1))

    def put(self, name: str, pair: Pair) -> tuple[Path, Path]:
        write_files(self.folder, pair.files(name), force=True)
        return self.folder / f"{name}.pem", self.folder / f"{name}-key.pem"

    def expired(self, name: str, names: Sequence[str] = LOCAL) -> tuple[Path, Path]:
        """One that was good until yesterday."""
        made = issue(self.pair, name, names, "both", 1)
        old = made.certificate
        builder = (
            x509.CertificateBuilder()
            .subject_name(old.subject)
            .issuer_name(old.issuer)
            .public_key(made.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - timedelta(days=2))
            .not_valid_after(datetime.now(UTC) - timedelta(days=1))
        )
        for extension in old.extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        return self.put(name, Pair(builder.sign(self.pair.key, hashes.SHA256()), made.key))


def serial_of(certificate: Path) -> int:
    return x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number


def serial_shown(connection: ssl.SSLSocket) -> int:
    shown = connection.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def key_bytes(pair: Pair, password: bytes) -> bytes:
    return pair.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password),
    )


def client_context(ca: Path, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca))
    if pair is not None:
        context.load_cert_chain(*map(str, pair))
    return context


def connect(port: int, context: ssl.SSLContext, name: str | None = "localhost") -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", port), 20)
    try:
        return context.wrap_socket(raw, server_hostname=name)
    except BaseException:
        raw.close()
        raise


def get(connection: ssl.SSLSocket, path: str = "/-/healthy") -> int:
    """The status of one request on a connection that stays open."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionError("the server closed the connection")
        head += chunk
    head, _, body = head.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    left = int(fields[b"content-length"]) - len(body)
    while left > 0:
        left -= len(connection.recv(left))
    return int(head.split()[1])

"""TLS of everything that listens: one context, whose certificates change while it is in use."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from millstream_gateway.backends.tls_files import (
    CertificateState,
    PemFiles,
    PemPaths,
    Reloading,
    refuse_password,
)
from millstream_gateway.settings import TlsSettings

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
# For TLS 1.2, where it is allowed: forward secrecy and authenticated encryption, nothing else.
_CIPHERS_1_2: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


class ServerTls:
    """The server's certificate and, when it asks clients for theirs, their CA.

    Connections keep what they were opened with; the first one after a reload gets the new
    certificate. Nothing is closed for it.

    Threads  `open` and `reload` block, from any thread; `keep_fresh` is for the event loop.
    """

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        paths = PemPaths(settings.cert_file, settings.key_file, settings.client_ca_file)
        self._certificates = Reloading("server", paths, self._make)
        self._listening: ssl.SSLContext | None = None

    @property
    def enabled(self) -> bool:
        return bool(self._settings.cert_file)

    @property
    def states(self) -> tuple[CertificateState, ...]:
        return (self._certificates.state,) if self.enabled else ()

    def open(self) -> None:
        """Raises `FailedPreconditionError` when the files are no good."""
        if self.enabled:
            self._certificates.open()

    def server_tls_context(self) -> ssl.SSLContext | None:
        """What every listener gives to its sockets; None when TLS is off. Opens the files."""
        if not self.enabled:
            return None
        if self._listening is None:
            # A context cannot be emptied of a certificate, and half a replacement is none. So each
            # pair has a context of its own, and the one that listens only passes on to the newest.
            context = self._make(None)
            self._certificates.open()
            context.sni_callback = self._choose
            self._listening = context
        return self._listening

    def reload(self) -> bool:
        """Whether there was something new that is in use now."""
        return self.enabled and self._certificates.reload()

    async def keep_fresh(self) -> None:
        """Look at the files now and then; runs until it is cancelled."""
        while self.enabled:
            await asyncio.sleep(self._settings.reload_interval / 1000)
            await asyncio.to_thread(self.reload)

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _: ssl.SSLContext
    ) -> None:
        # Called for every handshake, also when the client names no server.
        connection.context = self._certificates.value

    def _make(self, files: PemFiles | None) -> ssl.SSLContext:
        settings = self._settings
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[settings.min_version]
        context.set_ciphers(_CIPHERS_1_2)
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        if settings.client_ca_file:
            optional = settings.client_auth == "optional"
            context.verify_mode = ssl.CERT_OPTIONAL if optional else ssl.CERT_REQUIRED
            # A resumed connection is not asked for its certificate, whatever happened to the CA.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        if files is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file, refuse_password)
            if settings.client_ca_file:
                context.load_verify_locations(cadata=files.ca.decode("ascii"))
        return context

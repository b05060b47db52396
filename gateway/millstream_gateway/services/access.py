"""Everything about who may do what, made together: keys, tenants, sign-in, audit."""

from __future__ import annotations

import asyncio

import structlog

from millstream.errors import FailedPreconditionError, MillstreamError
from millstream_gateway.backends.choice import make_meta_store, meta_folder
from millstream_gateway.services.audit import FILE_NAME, AuditFile, AuditLog, AuditMemory
from millstream_gateway.services.authentication import Authenticator
from millstream_gateway.services.keys import KeyService
from millstream_gateway.services.tenants import TenantService
from millstream_gateway.settings import Settings, is_loopback

log = structlog.get_logger(__name__)


class AccessControl:
    """Opened before anything is served, closed after the last answer.

    Threads  `open`, `close` and `check_exposure` block; `keep_usage` is for the event loop.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        folder = meta_folder(settings)
        self.store = make_meta_store(settings)
        self.audit = AuditLog(AuditMemory() if folder is None else AuditFile(folder / FILE_NAME))
        self.tenants = TenantService(self.store, self.audit, settings.limits.tenants)
        self.keys = KeyService(self.store, self.tenants, self.audit)
        self.authenticator = Authenticator(settings.auth, self.store, self.keys)

    def open(self) -> None:
        self.store.open()

    def close(self) -> None:
        self._flush()
        self.audit.close()
        self.store.close()

    def check_exposure(self) -> None:
        """Refuse to let other machines in when nobody there could be told from anybody."""
        host = self._settings.server.host
        if not is_loopback(host) and not self.authenticator.required:
            raise FailedPreconditionError(
                f"{host!r} is not a loopback address. Without credentials the server is open and "
                "listens on loopback addresses only (127.0.0.1, ::1, localhost). Set "
                "auth.admin_key, or make a key first: millstream key create --name first "
                f"--role admin --data {self._settings.storage.path}"
            )

    async def keep_usage(self) -> None:
        """Write down now and then when keys were used; runs until it is cancelled."""
        while True:
            await asyncio.sleep(self._settings.auth.last_used_interval / 1000)
            await asyncio.to_thread(self._flush)

    def _flush(self) -> None:
        try:
            self.keys.flush_usage()
        except MillstreamError as error:
            log.warning("the last use of keys was not written", error=error.message)

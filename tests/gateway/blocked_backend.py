"""A backend whose queries wait until the test lets them go."""

from __future__ import annotations

import threading

from millstream_gateway.backends.cancel import CancelSignal
from millstream_gateway.backends.fake import FakeBackend
from millstream_gateway.schemas.access import TenantId
from millstream_gateway.schemas.queries import InstantQuery, QueryAnswer

_DEADLINE_SECONDS = 20


class BlockedBackend(FakeBackend):
    """``began`` is released by each query that waits for ``go_on``."""

    def __init__(self) -> None:
        super().__init__()
        self.began = threading.Semaphore(0)
        self.go_on = threading.Event()

    def query(self, tenant: TenantId, request: InstantQuery, cancel: CancelSignal) -> QueryAnswer:
        self.began.release()
        assert self.go_on.wait(_DEADLINE_SECONDS)
        return super().query(tenant, request, cancel)

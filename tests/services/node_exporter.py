"""A real node_exporter, which serves this machine's metrics."""

from __future__ import annotations

import re
from pathlib import Path

from tests.services import artifacts
from tests.services.http import answers_ok
from tests.services.process import Process

READY_DEADLINE_SECONDS = 20.0


class NodeExporter(Process):
    """node_exporter on a port of its own choosing; ready when constructed."""

    def __init__(self, log_dir: Path) -> None:
        super().__init__(
            "node_exporter",
            [artifacts.ensure(artifacts.NODE_EXPORTER), "--web.listen-address=127.0.0.1:0"],
            log_dir,
        )
        self.address = self.wait_ready(
            "names its port", READY_DEADLINE_SECONDS, self._reported_address
        )
        self.url = f"http://{self.address}"
        self.wait_ready(
            "serves /metrics", READY_DEADLINE_SECONDS, lambda: answers_ok(self.url, "/metrics")
        )

    def _reported_address(self) -> str | None:
        match = re.search(r"address=(127\.0\.0\.1:\d+)", self.stderr())
        return match.group(1) if match else None

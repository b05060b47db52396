"""A node as its users start it: `millstreamd`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tests.services.process import Process, ServiceError

READY_DEADLINE_SECONDS = 60.0
_ROOT = Path(__file__).resolve().parents[2]
_READY_LINE = re.compile(r"^millstreamd ready: (.*)$", re.MULTILINE)
_PART = re.compile(r"(\w+) (?:http://)?([\d.]+):(\d+)")


def built(program: str) -> Path:
    """The newest build of a program, by its path in the build folder."""
    found = [path for path in _ROOT.glob(f"build/*/cpp/{program}") if path.is_file()]
    if not found:
        raise ServiceError(f"{program} is not built: run `make build`")
    return max(found, key=lambda path: path.stat().st_mtime)


class Node(Process):
    """`millstreamd` on free ports; ready when constructed."""

    def __init__(
        self,
        data: Path,
        log_dir: Path,
        *,
        grpc: str = "127.0.0.1:0",
        arguments: Sequence[str] = (),
    ) -> None:
        command: list[str | Path] = [built("node/millstreamd"), "--data", data]
        command += ["--grpc", grpc, "--health", "127.0.0.1:0", *arguments]
        super().__init__("millstreamd", command, log_dir)
        line = self.wait_ready("says where it listens", READY_DEADLINE_SECONDS, self._reported)
        self._addresses = {name: (host, int(port)) for name, host, port in _PART.findall(line)}

    def address_of(self, listener: str) -> tuple[str, int]:
        """Where `grpc`, `health` or `native` is."""
        return self._addresses[listener]

    @property
    def address(self) -> str:
        """That of its gRPC."""
        host, port = self.address_of("grpc")
        return f"{host}:{port}"

    @property
    def health_url(self) -> str:
        host, port = self.address_of("health")
        return f"http://{host}:{port}"

    def _reported(self) -> str | None:
        text = self.stdout()
        match = _READY_LINE.search(text[: text.rfind("\n") + 1])
        return match[1] if match else None

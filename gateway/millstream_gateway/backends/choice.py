"""Which backend and which meta store the settings ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from millstream_gateway.backends.embedded import EmbeddedBackend
from millstream_gateway.backends.local_meta_store import LocalMetaStore, MemoryMetaStore
from millstream_gateway.backends.meta_store import MetaStore
from millstream_gateway.backends.protocol import Backend
from millstream_gateway.settings import MEMORY, Settings

_META_FOLDER = "meta"
_PUSHED_FOLDER = "pushed"


def make_backend(settings: Settings) -> Backend:
    """A node when one is named, otherwise an engine in this process; not open yet."""
    if settings.nodes.addresses:
        # Imported here: an embedded engine needs no gRPC.
        from millstream_gateway.backends.nodes import NodesBackend

        return NodesBackend(settings.nodes)
    return EmbeddedBackend(settings.storage)


def meta_folder(settings: Settings) -> Path | None:
    """Where keys, tenants and the audit log are; None when they end with the process."""
    if settings.meta.path:
        return Path(settings.meta.path)
    if settings.storage.path == MEMORY:
        return None
    return Path(settings.storage.path) / _META_FOLDER


def pushed_folder(settings: Settings) -> Path | None:
    """Where the groups of the push gateway are; None when they end with the process."""
    folder = meta_folder(settings)
    return None if folder is None else folder / _PUSHED_FOLDER


def make_meta_store(settings: Settings) -> MetaStore:
    """Beside the data, where they outlive the process; not open yet."""
    folder = meta_folder(settings)
    return MemoryMetaStore() if folder is None else LocalMetaStore(folder)


def make_selector_check() -> Callable[[str], None]:
    """What raises `InvalidArgumentError` for a text that is no series selector."""

    def check(selector: str) -> None:
        # Imported here: most servers never ask.
        from millstream import _core

        _core.check_selectors([selector])

    return check


def are_within(selectors: Sequence[str], allow: Sequence[str], deny: Sequence[str]) -> bool:
    """Whether selectors give nothing but what access lists let see; False in doubt."""
    # Imported here: most servers never ask.
    from millstream import _core

    return _core.are_within(selectors, allow=allow, deny=deny)


def send_to_all(sockets: Sequence[int], frames: bytes) -> Sequence[tuple[int, int]]:
    """Write the same to many sockets: `ws_frames.SendToAll`."""
    # Imported here, as above.
    from millstream import _core

    return _core.send_to_all(sockets, frames)

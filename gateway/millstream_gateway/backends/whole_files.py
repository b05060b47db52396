"""Files that are written whole: whoever reads one, after a power cut too, finds the old or the new."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Put new content in the place of a file, which its owner alone may read.

    It is under a temporary name first; with ``sync`` it is on the disk before it gets its own, and
    that, too, before this returns. For one writer at a time. Raises `OSError`.
    """
    temporary = path.with_name(f"{path.name}.new")
    # There is one writer, so what may be there was left by a crash.
    temporary.unlink(missing_ok=True)
    file = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    with open(file, "wb") as out:  # noqa: PTH123
        out.write(content)
        out.flush()
        if sync:
            os.fsync(out.fileno())
    temporary.replace(path)
    if sync:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

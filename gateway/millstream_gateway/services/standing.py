"""What an error says of somebody who was let in and is looked at again while something is open."""

from __future__ import annotations

from typing import Final

from millstream.errors import Code

#: Whoever hears one of these is not the one that was let in.
FINAL: Final = frozenset({Code.UNAUTHENTICATED, Code.PERMISSION_DENIED, Code.NOT_FOUND})
#: These say only that it cannot be told, or done, at the moment: the next look will.
PASSING: Final = frozenset(
    {Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED, Code.ABORTED}
)

"""JSON with events in it, whatever their payloads are.

A payload may be nested deeper than `json` reads, or have a number that no float holds. That must
cost nobody the events beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

from millstream._events import PAYLOAD_TEXT

T = TypeVar("T")

_TOKEN: Final = re.compile(
    r'("payload"\s*:\s*)(?=[^\s"])|"[^"\\]*(?:\\.[^"\\]*)*"|([][{}])', re.DOTALL
)
_SCALAR: Final = re.compile(r"[^\s,\]}]*")


def read_events(text: str | bytes, use: Callable[[Any], T]) -> T:
    """What ``use`` makes of the document, which must be free of effects: it may be called twice.

    The second time for a document in which payloads are texts, as `event_of_json` takes them. Raises
    `ValueError` or `RecursionError` when that does not help.
    """
    try:
        return use(json.loads(text))
    except (ValueError, RecursionError):
        whole = text if isinstance(text, str) else text.decode()
        return use(json.loads(_with_texts(whole)))


def _with_texts(document: str) -> str:
    """The document with each payload as a text of JSON; without recursion."""
    pieces: list[str] = []
    copied = depth = 0
    # Where the payload begins, and how deep that is.
    begin, level = -1, 0

    def cut(end: int) -> None:
        nonlocal copied, begin
        pieces.append(f'"{PAYLOAD_TEXT}":{json.dumps(document[begin:end])}')
        copied, begin = end, -1

    for token in _TOKEN.finditer(document):
        if token[1]:
            if begin < 0:
                pieces.append(document[copied : token.start()])
                begin, level = token.end(), depth
                if document[begin] not in "[{":
                    scalar = _SCALAR.match(document, begin)
                    cut(begin if scalar is None else scalar.end())
        elif token[2]:
            depth += 1 if token[2] in "[{" else -1
            if begin >= 0 and depth == level:
                cut(token.end())
    return "".join([*pieces, document[copied:]])

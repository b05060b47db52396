"""Small decoders for the fake backend: just enough of snappy, protobuf and exposition text.

They exist so that route tests can post the same bytes to the fake as to a real engine. They favour
brevity over speed; the engine's own decoders are in C++.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Final

from millstream.errors import InvalidArgumentError

_DECODED_BYTES_MAX: Final = 1 << 20
_LINE: Final = re.compile(
    r"(?P<name>[a-zA-Z_:][\w:]*)\s*(?:\{(?P<labels>[^}]*)\})?\s+(?P<value>\S+)"
    r"(?:\s+(?P<time>-?\d+))?\s*\Z"
)
_LABEL: Final = re.compile(r'\s*(\w+)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|\Z)')

Labels = dict[str, str]
Sample = tuple[Labels, int, float]


def unsnappy(body: bytes) -> bytes:
    """Decode a snappy block."""
    size, at = _varint(body, 0)
    if size > _DECODED_BYTES_MAX:
        raise InvalidArgumentError(f"snappy: declared length {size} is over the limit")
    out = bytearray()
    while at < len(body):
        tag, at = body[at], at + 1
        if tag & 3 == 0:
            length, extra = tag >> 2, max(0, (tag >> 2) - 59)
            if extra:
                length, at = int.from_bytes(body[at : at + extra], "little"), at + extra
            chunk = body[at : at + length + 1]
            if len(chunk) != length + 1:
                raise InvalidArgumentError("snappy: corrupt input")
            out += chunk
            at += length + 1
            continue
        width = (0, 1, 2, 4)[tag & 3]
        offset = int.from_bytes(body[at : at + width], "little")
        at += width
        length = (tag >> 2) + 1
        if width == 1:
            length, offset = ((tag >> 2) & 7) + 4, offset | (tag >> 5) << 8
        if not 0 < offset <= len(out):
            raise InvalidArgumentError("snappy: corrupt input")
        for _ in range(length):
            out.append(out[-offset])
    if len(out) != size:
        raise InvalidArgumentError("snappy: corrupt input")
    return bytes(out)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise InvalidArgumentError("unexpected end of input")
        byte, at = data[at], at + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise InvalidArgumentError("varint too long")


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field: int | bytes
        if key & 7 == 0:
            field, at = _varint(data, at)
        elif key & 7 == 1:
            field, at = data[at : at + 8], at + 8
        elif key & 7 == 2:
            size, at = _varint(data, at)
            field, at = data[at : at + size], at + size
        else:
            raise InvalidArgumentError("protobuf: unsupported wire type")
        if at > len(data):
            raise InvalidArgumentError("protobuf: unexpected end of input")
        yield key >> 3, field


def _message(field: int | bytes) -> bytes:
    if isinstance(field, int):
        raise InvalidArgumentError("protobuf: wrong wire type")
    return field


def decode_write_request(message: bytes) -> Iterator[Sample]:
    """The samples of a remote write 1.0 ``WriteRequest``."""
    for number, series in _fields(message):
        if number != 1:
            continue
        labels: Labels = {}
        samples: list[tuple[int, float]] = []
        for kind, part in _fields(_message(series)):
            if kind == 1:
                pair = {n: _message(f).decode() for n, f in _fields(_message(part))}
                labels[pair.get(1, "")] = pair.get(2, "")
            elif kind == 2:
                time_ms, value = 0, 0.0
                for n, f in _fields(_message(part)):
                    if n == 1:
                        value = struct.unpack("<d", _message(f))[0]
                    elif isinstance(f, int):
                        time_ms = f - (1 << 64) if f >> 63 else f
                samples.append((time_ms, value))
        yield from ((labels, time_ms, value) for time_ms, value in samples)


def parse_exposition_line(line: str, default_timestamp_ms: int) -> Sample | None:
    """One line of text exposition; None for a comment or an empty line."""
    if not line.strip() or line.startswith("#"):
        return None
    match = _LINE.match(line)
    if match is None:
        raise InvalidArgumentError("cannot be understood as a sample")
    try:
        value = float(match["value"])
    except ValueError:
        raise InvalidArgumentError(f"value {match['value']!r} is not a number") from None
    time_ms = int(match["time"]) if match["time"] else default_timestamp_ms
    return {"__name__": match["name"], **parse_labels(match["labels"] or "")}, time_ms, value


def parse_labels(text: str) -> Labels:
    """``a="b",c="d"`` as a dictionary."""
    labels: Labels = {}
    at = 0
    while text[at:].strip():
        match = _LABEL.match(text, at)
        if match is None:
            raise InvalidArgumentError("labels cannot be understood")
        labels[match[1]] = match[2].replace('\\"', '"').replace("\\\\", "\\")
        at = match.end()
    return labels

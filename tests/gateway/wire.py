"""Encoders for remote write bodies, independent of the code under test."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence


def varint(number: int) -> bytes:
    out = bytearray()
    number &= (1 << 64) - 1
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def write_request(
    *series: tuple[Mapping[str, str], Sequence[tuple[int, float]]],
) -> bytes:
    """A remote write 1.0 message, not compressed."""
    message = b""
    for labels, samples in series:
        body = b"".join(
            field(1, field(1, name.encode()) + field(2, value.encode()))
            for name, value in sorted(labels.items())
        )
        for time_ms, value in samples:
            body += field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + varint(time_ms))
        message += field(1, body)
    return message


def snappy(data: bytes) -> bytes:
    """A snappy block made of literals only."""
    out = bytearray(varint(len(data)))
    for start in range(0, len(data), 60):
        chunk = data[start : start + 60]
        out.append((len(chunk) - 1) << 2)
        out += chunk
    return bytes(out)

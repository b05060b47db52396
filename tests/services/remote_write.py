"""An encoder of Prometheus remote write 1.0, and a client that says what the server answered.

Values are given as the 64 bits of a double where a test cares about NaN payloads, so nothing between the test and the
wire can change them.

Source  https://prometheus.io/docs/specs/prw/remote_write_spec/ and prompb/types.proto of Prometheus.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cramjam

from tests.services.http import Client, Response

Text = str | bytes
HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
    "User-Agent": "millstream-tests",
}


def value_bits(value: float) -> int:
    """The 64 bits of a double."""
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


@dataclass(frozen=True)
class Sample:
    """A timestamp in milliseconds and the bits of a float value."""

    timestamp_ms: int
    bits: int

    @classmethod
    def of(cls, timestamp_ms: int, value: float) -> Sample:
        return cls(timestamp_ms, value_bits(value))


@dataclass(frozen=True)
class Series:
    """Labels in the order in which they go on the wire, and samples."""

    labels: Sequence[tuple[Text, Text]]
    samples: Sequence[Sample]


def varint(number: int) -> bytes:
    """An unsigned protobuf varint; negative numbers are taken as 64-bit two's complement."""
    number &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def length_delimited(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def _as_bytes(text: Text) -> bytes:
    return text.encode() if isinstance(text, str) else text


def encode_label(name: Text, value: Text) -> bytes:
    return length_delimited(1, _as_bytes(name)) + length_delimited(2, _as_bytes(value))


def encode_sample(sample: Sample) -> bytes:
    return b"\x09" + struct.pack("<Q", sample.bits) + b"\x10" + varint(sample.timestamp_ms)


def encode_series(series: Series) -> bytes:
    parts = [length_delimited(1, encode_label(name, value)) for name, value in series.labels]
    parts += [length_delimited(2, encode_sample(sample)) for sample in series.samples]
    return b"".join(parts)


def encode_request(series: Iterable[Series]) -> bytes:
    """A WriteRequest, not yet compressed."""
    return b"".join(length_delimited(1, encode_series(one)) for one in series)


def compress(message: bytes) -> bytes:
    """Snappy's block format, as remote write demands."""
    return bytes(cramjam.snappy.compress_raw(message))


def sorted_labels(name: str, **labels: str) -> list[tuple[Text, Text]]:
    """Labels as a well-behaved sender orders them."""
    pairs: list[tuple[Text, Text]] = [("__name__", name)]
    pairs += sorted(labels.items())
    return pairs


def post(client: Client, body: bytes) -> Response:
    """Sends an already compressed body to the remote write route."""
    return client.request("POST", "/api/v1/write", body=body, headers=HEADERS)


def write(client: Client, series: Iterable[Series]) -> Response:
    """Encodes, compresses and sends."""
    return post(client, compress(encode_request(series)))

"""The two messages that an OTLP client may get back, as protobuf and as JSON.

Written by hand: two messages of two fields are no reason to carry OpenTelemetry's definitions.

Source  opentelemetry-proto, collector/metrics/v1/metrics_service.proto; google/rpc/status.proto
"""

from __future__ import annotations

from typing import Final

import orjson

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"


def response_media(request_content_type: str) -> str:
    """The answer is in the form of the question; protobuf where that is not known."""
    media = request_content_type.split(";", maxsplit=1)[0].strip().lower()
    return JSON if media == JSON else PROTOBUF


def export_response(media: str, rejected: int, message: str) -> bytes:
    """An ExportMetricsServiceResponse, with a partial success unless nothing was refused."""
    if media == JSON:
        if not rejected:
            return b"{}"
        partial = {"rejectedDataPoints": str(rejected), "errorMessage": message}
        return orjson.dumps({"partialSuccess": partial})
    if not rejected:
        return b""
    return _bytes_field(1, _integer_field(1, rejected) + _bytes_field(2, message.encode()))


def rpc_status(media: str, code: int, message: str) -> bytes:
    """A google.rpc.Status."""
    if media == JSON:
        return orjson.dumps({"code": code, "message": message})
    return _integer_field(1, code) + _bytes_field(2, message.encode())


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _integer_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value

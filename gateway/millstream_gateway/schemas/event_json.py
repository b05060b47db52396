"""Events as JSON, in and out. A payload that is JSON passes through as the bytes that it came as."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import orjson

from millstream.errors import InvalidArgumentError, MillstreamError
from millstream_gateway.schemas.events import EventStatus, NewEvent, Placement, StoredEvent

#: Events in one request.
BATCH_MAX: Final = 10_000
#: Levels of arrays and objects in a payload; readers of JSON often take no more.
DEPTH_MAX: Final = 128
_TIME_MAX_MS: Final = 2**63 - 1
_EPOCH_MAX: Final = 2**32 - 1
_SEQUENCE_MAX: Final = 2**63 - 1
# Sizes of a WebSocket's text from which on they are written with more bytes.
_SHORT: Final = 126
_MEDIUM: Final = 1 << 16
_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_BRACKETS: Final = re.compile(rb"[\[\]{}]")

#: An event that is published, for OpenAPI.
EVENT_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["topic"],
    "additionalProperties": False,
    "properties": {
        "topic": {"type": "string", "description": "A topic that is there."},
        "payload": {"description": "Any JSON. It or payload_base64 is needed."},
        "payload_base64": {"type": "string", "description": "Any bytes, in base64."},
        "key": {
            "type": ["string", "null"],
            "description": "Events of one key keep their order.",
        },
        "key_base64": {"type": ["string", "null"], "description": "A key of any bytes."},
        "headers": {
            "type": ["object", "null"],
            "additionalProperties": {"type": "string"},
        },
        "timestamp": {
            "type": ["integer", "null"],
            "description": "Milliseconds since the epoch; now, when absent.",
        },
        "id": {
            "type": ["string", "null"],
            "description": "Your own, unique within the topic: publishing it again stores nothing.",
        },
        "partition": {"type": ["integer", "null"], "description": "By the key, when absent."},
        "producer": {
            "type": ["object", "null"],
            "required": ["id", "sequence"],
            "additionalProperties": False,
            "description": "Who numbers its events in this partition: one that was stored is not "
            "stored again, and a gap is refused.",
            "properties": {
                "id": {"type": "string", "minLength": 1, "maxLength": 128},
                "epoch": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": _EPOCH_MAX,
                    "description": "Higher with each start of the producer; lower ones are over.",
                },
                "sequence": {"type": "integer", "minimum": 0, "maximum": _SEQUENCE_MAX},
            },
        },
    },
}


class _Producer(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    id: str
    sequence: Annotated[int, msgspec.Meta(ge=0, le=_SEQUENCE_MAX)]
    epoch: Annotated[int, msgspec.Meta(ge=0, le=_EPOCH_MAX)] = 0


class _Event(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    topic: str
    payload: msgspec.Raw = msgspec.Raw()
    payload_base64: str | None = None
    key: str | None = None
    key_base64: str | None = None
    headers: dict[str, str] | None = None
    timestamp: int | None = None
    id: str | None = None
    partition: int | None = None
    producer: _Producer | None = None


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw]


_event_decoder: Final = msgspec.json.Decoder(_Event)
_batch_decoder: Final = msgspec.json.Decoder(_Batch)
_any_decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_published(body: bytes) -> tuple[list[NewEvent | MillstreamError], bool]:
    """The events of a body, and whether it is a batch.

    In a batch an error stands in place of what is no event; alone it is raised.
    """
    _check_text(body)
    try:
        fields = _any_decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgumentError(f"the body is no JSON object: {_words(error)}") from None
    if "events" not in fields:
        return [read_event(body)], False
    try:
        raw = _batch_decoder.decode(body).events
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgumentError(f"the batch is not understood: {_words(error)}") from None
    if not 1 <= len(raw) <= BATCH_MAX:
        raise InvalidArgumentError(f"a batch has 1 to {BATCH_MAX} events, not {len(raw)}")
    return [_event_or_error(one) for one in raw], True


def read_event(text: bytes | msgspec.Raw) -> NewEvent:
    """One event; the text must be UTF-8."""
    try:
        event = _event_decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgumentError(f"not an event: {_words(error)}") from None
    headers = [(name, value.encode()) for name, value in (event.headers or {}).items()]
    timestamp = event.timestamp
    if timestamp is not None and not -_TIME_MAX_MS <= timestamp <= _TIME_MAX_MS:
        raise InvalidArgumentError("timestamp is out of range; milliseconds are meant")
    if event.partition is not None and not 0 <= event.partition < 1 << 31:
        raise InvalidArgumentError("partition is out of range")
    payload, is_json = _payload_of(event)
    named = event.producer
    return NewEvent(
        event.topic,
        payload,
        is_json,
        _key_of(event),
        headers,
        timestamp,
        event.id,
        event.partition,
        None if named is None else (named.id, named.epoch, named.sequence),
    )


def read_objects(text: str) -> dict[str, msgspec.Raw]:
    """The fields of a JSON object, each as it came."""
    try:
        return _any_decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgumentError(f"not a JSON object: {_words(error)}") from None


def _payload_of(event: _Event) -> tuple[bytes, bool]:
    raw = bytes(event.payload)
    if event.payload_base64 is not None:
        if raw:
            raise InvalidArgumentError("payload and payload_base64 exclude each other")
        return _from_base64(event.payload_base64, "payload_base64"), False
    if not raw:
        raise InvalidArgumentError("payload or payload_base64 is missing")
    _check_depth(raw)
    return raw, True


def _key_of(event: _Event) -> bytes | None:
    if event.key_base64 is None:
        return None if event.key is None else event.key.encode()
    if event.key is not None:
        raise InvalidArgumentError("key and key_base64 exclude each other")
    return _from_base64(event.key_base64, "key_base64")


def _event_or_error(raw: msgspec.Raw) -> NewEvent | MillstreamError:
    try:
        return read_event(raw)
    except MillstreamError as error:
        return error


def _from_base64(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeError):
        raise InvalidArgumentError(f"{name} is not base64") from None


def _check_text(body: bytes) -> None:
    # The decoder takes the text of a payload as it comes, and nobody could read it afterwards.
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"the body is not UTF-8: {error.reason}") from None


def _check_depth(raw: bytes) -> None:
    if raw.count(b"[") + raw.count(b"{") <= DEPTH_MAX:
        return
    depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", raw)):
        depth += 1 if bracket in b"[{" else -1
        if depth > DEPTH_MAX:
            raise InvalidArgumentError(f"the payload is more than {DEPTH_MAX} levels deep")


def _words(error: Exception) -> str:
    return "too many levels" if isinstance(error, RecursionError) else str(error)


def event_object(event: StoredEvent) -> dict[str, Any]:
    """A fetched event, for `orjson.dumps`."""
    found: dict[str, Any] = {
        "id": event.id,
        "topic": event.topic,
        "partition": event.partition,
        "offset": event.offset,
        "timestamp": event.timestamp_ms,
    }
    if event.key is None:
        found["key"] = None
    else:
        _put_text(found, "key", event.key)
    found["headers"] = {name: value.decode("utf-8", "replace") for name, value in event.headers}
    if event.is_json:
        found["payload"] = orjson.Fragment(event.payload)
    else:
        found["payload_base64"] = base64.b64encode(event.payload).decode()
    return found


def event_frame(event: StoredEvent, attempt: int = 0) -> bytes:
    """As a WebSocket sends it; to a group with how often it got it."""
    counted = {"attempt": attempt} if attempt else {}
    return orjson.dumps({"type": "event", **event_object(event), **counted})


def text_frame(message: bytes) -> bytes:
    """A whole message in one frame, as a server sends it.

    Source  RFC 6455, section 5.2
    """
    size = len(message)
    if size < _SHORT:
        return b"\x81%c" % size + message
    if size < _MEDIUM:
        return b"\x81\x7e" + size.to_bytes(2, "big") + message
    return b"\x81\x7f" + size.to_bytes(8, "big") + message


def placement_object(topic: str, placed: Placement) -> dict[str, Any]:
    """The answer to one published event."""
    return {
        "id": placed.id,
        "topic": topic,
        "partition": placed.partition,
        "offset": placed.offset,
        "status": placed.status,
        "timestamp": placed.timestamp_ms,
    }


def status_object(found: EventStatus) -> dict[str, Any]:
    """What is known of an event."""
    return {
        "id": found.id,
        "topic": found.topic,
        "partition": found.partition,
        "offset": found.offset,
        "status": found.status,
        "timestamp": found.timestamp_ms,
    }


def read_offsets(fields: Mapping[str, msgspec.Raw]) -> list[tuple[str, int, int]]:
    """What a group commits: one offset, or several in ``offsets``."""
    try:
        if "offsets" in fields:
            found = _offsets_decoder.decode(fields["offsets"])
        else:
            known = {name: raw for name, raw in fields.items() if name in _Offset.__struct_fields__}
            found = [_offset_decoder.decode(msgspec.json.encode(known))]
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgumentError(f"the offsets are not understood: {_words(error)}") from None
    if not 1 <= len(found) <= BATCH_MAX:
        raise InvalidArgumentError(f"1 to {BATCH_MAX} offsets are needed")
    for one in found:
        if not 0 <= one.offset < 1 << 63 or not 0 <= one.partition < 1 << 31:
            raise InvalidArgumentError("an offset or a partition is out of range")
    return [(one.topic, one.partition, one.offset) for one in found]


class _Offset(msgspec.Struct, forbid_unknown_fields=True):
    topic: str
    offset: int
    partition: int = 0


_offset_decoder: Final = msgspec.json.Decoder(_Offset)
_offsets_decoder: Final = msgspec.json.Decoder(list[_Offset])


def _put_text(found: dict[str, Any], name: str, value: bytes) -> None:
    try:
        found[name] = value.decode()
    except UnicodeDecodeError:
        found[f"{name}_base64"] = base64.b64encode(value).decode()

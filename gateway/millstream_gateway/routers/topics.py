"""Topics, how far groups have read them, and single events by id or place."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final, cast

import orjson
from fastapi import APIRouter, Query, Request, Response

from millstream.errors import InvalidArgumentError
from millstream_gateway.backends.cancel import CancelSignal
from millstream_gateway.dependencies import (
    READS_EVENTS,
    WRITES_EVENTS,
    CallerDep,
    ServicesDep,
    credentials_of,
    needs,
)
from millstream_gateway.routers.connection import while_connected
from millstream_gateway.routers.documentation import problems
from millstream_gateway.routers.media import JsonBodyRoute
from millstream_gateway.schemas.access import Action, Caller
from millstream_gateway.schemas.event_json import event_object, status_object
from millstream_gateway.schemas.events import CommitBy, Fetched, TopicInfo, TopicOptions, Where
from millstream_gateway.schemas.topics import (
    Commit,
    GroupDescription,
    GroupList,
    GroupMemberDescription,
    GroupOffsetDescription,
    GroupPlace,
    NewTopic,
    TopicChange,
    TopicDetails,
    TopicList,
)
from millstream_gateway.services.container import Services

router = APIRouter(
    prefix="/v1", tags=["events"], responses=problems(400, 401, 403, 429), route_class=JsonBodyRoute
)

_FETCH_MAX: Final = 10_000
# Who has waited longer is looked at again before the answer: a key may have ended meanwhile.
_ASKED_ANEW_SECONDS: Final = 1.0
_LIST_MAX: Final = 10_000
_OFFSET_MAX: Final = 2**63 - 1
_EVENT: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["id", "topic", "partition", "offset", "timestamp", "headers"],
    "properties": {
        "id": {"type": "string"},
        "topic": {"type": "string"},
        "partition": {"type": "integer"},
        "offset": {"type": "integer"},
        "timestamp": {"type": "integer"},
        "key": {"type": ["string", "null"]},
        "key_base64": {"type": "string"},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}},
        "payload": {},
        "payload_base64": {"type": "string"},
    },
}
_PLACE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["id", "topic", "partition", "offset", "status", "timestamp"],
    "properties": {
        "id": {"type": "string"},
        "topic": {"type": "string"},
        "partition": {"type": "integer"},
        "offset": {"type": "integer"},
        "status": {"enum": ["accepted", "durable", "replicated"]},
        "timestamp": {"type": "integer"},
    },
}
_EVENTS: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["events", "next_offset", "end_offset"],
    "properties": {
        "events": {"type": "array", "items": _EVENT},
        "next_offset": {"type": "integer"},
        "end_offset": {"type": "integer"},
    },
}


def _answers(description: str, schema: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": schema}}
    return {200: {"description": description, "content": content}, **problems(404)}


@router.post("/topics", status_code=201, responses=problems(409), response_model_exclude_unset=True)
@needs(WRITES_EVENTS)
async def create_topic(new: NewTopic, services: ServicesDep, caller: CallerDep) -> TopicDetails:
    """Make a topic."""
    options = cast(TopicOptions, new.options())
    return _described(await services.events.create_topic(caller, new.name, options))


@router.get("/topics", response_model=TopicList)
@needs(READS_EVENTS)
async def list_topics(
    services: ServicesDep,
    caller: CallerDep,
    prefix: Annotated[str, Query(max_length=300, description="Only names that begin so.")] = "",
    limit: Annotated[int, Query(ge=1, le=_LIST_MAX, description="Most to return.")] = _LIST_MAX,
    after: Annotated[str, Query(max_length=300, description="Only names behind this one.")] = "",
) -> Response:
    """Your topics, by name; those of the server only with a prefix that begins with `__`."""
    found = [
        one
        for one in await services.events.list_topics(caller, internal=prefix.startswith("__"))
        if one["name"].startswith(prefix) and one["name"] > after
    ]
    more = found[limit - 1]["name"] if len(found) > limit else None
    return _json({"topics": found[:limit], "next": more})


@router.get("/topics/{topic}", responses=problems(404), response_model_exclude_unset=True)
@needs(READS_EVENTS)
async def describe_topic(topic: str, services: ServicesDep, caller: CallerDep) -> TopicDetails:
    """A topic, its options, and what its partitions hold."""
    return _described(await services.events.describe_topic(caller, topic))


@router.patch("/topics/{topic}", responses=problems(404, 409), response_model_exclude_unset=True)
@needs(WRITES_EVENTS)
async def alter_topic(
    topic: str, change: TopicChange, services: ServicesDep, caller: CallerDep
) -> TopicDetails:
    """Change options of a topic."""
    options = cast(TopicOptions, change.options())
    return _described(await services.events.alter_topic(caller, topic, options))


@router.delete("/topics/{topic}", status_code=204, responses=problems(404), response_class=Response)
@needs(WRITES_EVENTS)
async def delete_topic(topic: str, services: ServicesDep, caller: CallerDep) -> Response:
    """Remove a topic, with all its events."""
    await services.events.delete_topic(caller, topic)
    return Response(status_code=204)


@router.get(
    "/topics/{topic}/events",
    responses=_answers("Events, where to go on, and where the partition ends.", _EVENTS),
    response_class=Response,
)
@needs(READS_EVENTS)
async def fetch_events(
    topic: str,
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    partition: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    offset: Annotated[
        str | None,
        Query(
            description="Of the first event: a number, `earliest`, which is the default, or "
            "`latest`.",
            json_schema_extra={"pattern": "^(earliest|latest|[0-9]{1,18})$"},
        ),
    ] = None,
    timestamp: Annotated[
        int | None,
        Query(
            ge=0,
            le=_OFFSET_MAX,
            description="In place of an offset: from the first event of this time (ms) or later.",
        ),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=_FETCH_MAX)] = 100,
    wait_ms: Annotated[
        int,
        Query(ge=0, le=86_400_000, description="How long to wait when there is nothing yet."),
    ] = 0,
) -> Response:
    """Events of one partition from an offset on; waits for some when asked to."""
    if offset is not None and timestamp is not None:
        raise InvalidArgumentError("offset and timestamp exclude each other")
    where = _where("earliest" if offset is None else offset)
    wait = min(wait_ms, services.settings.streams.poll_wait)

    async def ask(cancel: CancelSignal) -> Fetched:
        return await services.events.fetch(
            caller,
            topic,
            partition,
            where,
            timestamp_ms=timestamp,
            limit=limit,
            wait_ms=wait,
            cancel=cancel,
        )

    begun = time.monotonic()
    found = await while_connected(request, ask)
    if time.monotonic() - begun > _ASKED_ANEW_SECONDS:
        await _check_again(request, services, caller, topic)
    return _json(
        {
            "events": list(map(event_object, found.events)),
            "next_offset": found.next_offset,
            "end_offset": found.end_offset,
        }
    )


@router.get(
    "/events/{event_id}",
    responses=_answers("Where the event is, and what it has survived.", _PLACE),
    response_class=Response,
)
@needs(READS_EVENTS)
async def event_status(event_id: str, services: ServicesDep, caller: CallerDep) -> Response:
    """What became of a published event."""
    return _json(status_object(await services.events.event_status(caller, event_id)))


@router.get("/groups")
@needs(READS_EVENTS)
async def list_groups(services: ServicesDep, caller: CallerDep) -> GroupList:
    """The groups of consumers that have committed anything."""
    return GroupList(groups=await services.events.list_groups(caller))


@router.get("/groups/{group}/offsets", response_model_exclude_none=True)
@needs(READS_EVENTS)
async def group_offsets(group: str, services: ServicesDep, caller: CallerDep) -> GroupDescription:
    """How far a group is with each partition, and how far behind; nothing when it never said."""
    return await _group(group, services, caller)


@router.post("/groups/{group}/offsets", responses=problems(404), response_model_exclude_none=True)
@needs(WRITES_EVENTS)
async def commit_offsets(
    group: str, commit: Commit, services: ServicesDep, caller: CallerDep
) -> GroupDescription:
    """Say where a group goes on: the offset of the next event that it wants, by partition."""
    offsets = [(one.topic, one.partition, one.offset) for one in commit.offsets]
    by = CommitBy(commit.member, commit.generation, commit.reset)
    await services.events.commit_offsets(caller, group, offsets, by)
    return await _group(group, services, caller)


async def _group(group: str, services: Services, caller: Caller) -> GroupDescription:
    found = await services.events.group_offsets(caller, group)
    generation, members = await services.events.describe_group(caller, group)
    described = GroupDescription(
        group=group, offsets=[GroupOffsetDescription(**one._asdict()) for one in found]
    )
    if members:
        described.generation = generation
        described.members = [
            GroupMemberDescription(
                member=one.member,
                partitions=[GroupPlace(topic=name, partition=at) for name, at in one.owned],
                silent_ms=one.silent_ms,
                session_timeout_ms=one.session_timeout_ms,
            )
            for one in members
        ]
    return described


def _described(found: TopicInfo) -> TopicDetails:
    return TopicDetails.model_validate(found)


async def _check_again(request: Request, services: Services, caller: Caller, topic: str) -> None:
    """Raises unless the caller may still read the topic."""
    principal = await services.access.authenticator.identify(
        credentials_of(request.scope), caller.client
    )
    now = Caller(principal, caller.tenant, caller.tenant_name, caller.client)
    services.events.check(now, Action.READ, topic)


def _where(text: str) -> Where:
    if text == "earliest":
        return "earliest"
    if text == "latest":
        return "latest"
    if text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= _OFFSET_MAX:
        return int(text)
    raise InvalidArgumentError("offset is a number, earliest or latest")


def _json(content: object) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")

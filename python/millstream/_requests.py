"""Request and reply over topics, by two headers whose names are AMQP's.

A request is an event with ``reply-to``, the topic where its answer is awaited, and
``correlation-id``, which the answer repeats. Everything else about both events is as of any other.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from fnmatch import fnmatchcase
from typing import Any, Final, Self

from millstream._events import Event, NewEvent, Published, Wait
from millstream.errors import (
    AlreadyExistsError,
    DeadlineExceededError,
    InvalidArgumentError,
    NotFoundError,
)

REPLY_TO: Final = "reply-to"
CORRELATION_ID: Final = "correlation-id"
_SUFFIX: Final = ".replies"
Headers = Mapping[str, bytes | str]


class Question:
    """One request: where its answer comes, and how it is known."""

    def __init__(self, topic: str, reply_to: str | None) -> None:
        self._topic = topic
        self.reply_to = reply_to or topic + _SUFFIX
        self._id = str(uuid.uuid4())
        self.filter = f'headers["{CORRELATION_ID}"] == "{self._id}"'

    def headers(self, others: Headers | None) -> Headers:
        return {**(others or {}), REPLY_TO: self.reply_to, CORRELATION_ID: self._id}

    def unanswered(self) -> DeadlineExceededError:
        return DeadlineExceededError(
            f"no answer to the request on topic {self._topic} came in time on {self.reply_to}"
        )


def answer_to(
    event: Event, payload: Any, headers: Headers | None, allow: Sequence[str]
) -> tuple[str, NewEvent]:
    """The topic of the reply, and the reply."""
    if REPLY_TO not in event.headers or CORRELATION_ID not in event.headers:
        raise InvalidArgumentError(f"the event {event.id} is no request: it asks for no reply")
    topic = event.headers[REPLY_TO].decode("utf-8", "replace")
    if topic != event.topic + _SUFFIX and not any(fnmatchcase(topic, one) for one in allow):
        raise InvalidArgumentError(
            f"the request {event.id} wants its reply on topic {topic!r}, which allow does not name"
        )
    same = {**(headers or {}), CORRELATION_ID: event.headers[CORRELATION_ID]}
    return topic, NewEvent(payload, event.key, same)


class Requests(ABC):
    """`request` and `reply` of a topic, over its other verbs."""

    name: str

    def request(
        self,
        payload: Any,
        *,
        timeout: Wait = 5.0,
        key: bytes | str | None = None,
        headers: Headers | None = None,
        reply_to: str | None = None,
    ) -> Event:
        """Publish an event and wait for the reply to it.

        The reply comes on the topic ``reply_to``, else on this one's name with ``.replies``, which
        is made when it is not there, in memory only. `DeadlineExceededError` when none came for
        ``timeout`` (seconds, or a duration): whether anybody handled the request is not known then.
        """
        question = Question(self.name, reply_to)
        # Before the request goes, so that no reply comes too early.
        with self._replies(question, timeout) as replies:
            self.publish(payload, key=key, headers=question.headers(headers))
            for event in replies:
                return event
        raise question.unanswered()

    def reply(
        self,
        event: Event,
        payload: Any,
        *,
        headers: Headers | None = None,
        allow: Sequence[str] = (),
    ) -> Published:
        """Answer a request: publish to the topic that it names.

        That is the request's own with ``.replies``, or one that the patterns in ``allow`` name: else
        whoever may ask could have this program write to any topic. `InvalidArgumentError` otherwise,
        and for an event that asks for nothing.
        """
        topic, answer = answer_to(event, payload, headers, allow)
        placed: Published = self._other(topic).publish_many([answer])[0]
        return placed

    def _replies(
        self, question: Question, timeout: Wait
    ) -> AbstractContextManager[Iterator[Event]]:
        topic = self._other(question.reply_to)
        try:
            return topic.subscribe("latest", timeout=timeout, filter=question.filter)
        except NotFoundError:
            with suppress(AlreadyExistsError):
                topic.create(durability="ephemeral")
            return topic.subscribe("latest", timeout=timeout, filter=question.filter)

    @abstractmethod
    def _other(self, name: str) -> Self: ...

    @abstractmethod
    def create(self, *, durability: str = "local") -> Any: ...

    @abstractmethod
    def publish(
        self, payload: Any, *, key: bytes | str | None = None, headers: Headers | None = None
    ) -> Published: ...

    @abstractmethod
    def publish_many(self, events: Any) -> list[Any]: ...

    @abstractmethod
    def subscribe(
        self,
        offset: Any = "latest",
        *,
        timeout: Wait | None = None,
        filter: str = "",  # noqa: A002 - what it is
    ) -> AbstractContextManager[Iterator[Event]]: ...

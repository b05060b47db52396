"""The errors that Millstream raises, one class for each status code of the core.

The codes carry gRPC's numbers, so an error keeps its meaning from the C++ core through Python to
HTTP and gRPC.

>>> from millstream import errors
>>> try:
...     raise errors.NotFoundError("no such topic")
... except errors.MillstreamError as error:
...     print(error.code.name, error)
NOT_FOUND no such topic
"""

from __future__ import annotations

import enum
from typing import ClassVar, Final

__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "CancelledError",
    "Code",
    "DataLossError",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "InternalError",
    "InvalidArgumentError",
    "MillstreamError",
    "NotFoundError",
    "OutOfRangeError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "UnknownError",
    "error_class",
]


class Code(enum.IntEnum):
    """Status codes; the numbers are gRPC's."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class MillstreamError(Exception):
    """Base of every error that Millstream raises. ``code`` says which kind it is.

    A subclass is made with its message alone; the base also takes a code in front of it.
    """

    code: Code = Code.UNKNOWN
    _class_code: ClassVar[Code | None] = None

    def __init__(self, *args: object) -> None:
        if len(args) == 2 and isinstance(args[0], int):
            code, message = Code(args[0]), str(args[1])
        else:
            code, message = self._class_code or Code.UNKNOWN, str(args[0]) if args else ""
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[MillstreamError], tuple[int, str]]:
        return type(self), (int(self.code), self.message)


class CancelledError(MillstreamError):
    """The caller gave up on the work."""

    _class_code = Code.CANCELLED


class UnknownError(MillstreamError):
    """A failure that carries no better code."""

    _class_code = Code.UNKNOWN


class InvalidArgumentError(MillstreamError):
    """The request is wrong whatever the state of the store: a parse error, a bad label name."""

    _class_code = Code.INVALID_ARGUMENT


class DeadlineExceededError(MillstreamError):
    """The work did not end within its time limit."""

    _class_code = Code.DEADLINE_EXCEEDED


class NotFoundError(MillstreamError):
    """The thing that was asked for does not exist."""

    _class_code = Code.NOT_FOUND


class AlreadyExistsError(MillstreamError):
    """The thing to be made exists already."""

    _class_code = Code.ALREADY_EXISTS


class PermissionDeniedError(MillstreamError):
    """The caller may not do this."""

    _class_code = Code.PERMISSION_DENIED


class ResourceExhaustedError(MillstreamError):
    """A named limit was reached; the message says which and how to raise it."""

    _class_code = Code.RESOURCE_EXHAUSTED


class FailedPreconditionError(MillstreamError):
    """The store is not in a state that allows this, for example it is closed or locked."""

    _class_code = Code.FAILED_PRECONDITION


class AbortedError(MillstreamError):
    """A concurrent change won; trying again may succeed."""

    _class_code = Code.ABORTED


class OutOfRangeError(MillstreamError):
    """A time, offset or index lies outside what exists, for example a sample that is too old."""

    _class_code = Code.OUT_OF_RANGE


class UnimplementedError(MillstreamError):
    """This build or this backend does not offer the operation."""

    _class_code = Code.UNIMPLEMENTED


class InternalError(MillstreamError):
    """A bug in Millstream."""

    _class_code = Code.INTERNAL


class UnavailableError(MillstreamError):
    """The service cannot answer now; trying again later is right."""

    _class_code = Code.UNAVAILABLE


class DataLossError(MillstreamError):
    """Stored bytes are corrupt; the message names the file and the offset."""

    _class_code = Code.DATA_LOSS


class UnauthenticatedError(MillstreamError):
    """The caller's identity is missing or was not proven."""

    _class_code = Code.UNAUTHENTICATED


_CLASSES: Final[dict[Code | None, type[MillstreamError]]] = {
    cls._class_code: cls
    for cls in (
        CancelledError,
        UnknownError,
        InvalidArgumentError,
        DeadlineExceededError,
        NotFoundError,
        AlreadyExistsError,
        PermissionDeniedError,
        ResourceExhaustedError,
        FailedPreconditionError,
        AbortedError,
        OutOfRangeError,
        UnimplementedError,
        InternalError,
        UnavailableError,
        DataLossError,
        UnauthenticatedError,
    )
}


def error_class(code: int) -> type[MillstreamError]:
    """The class for a status code number; ``UnknownError`` for a number that has none.

    >>> error_class(8).__name__
    'ResourceExhaustedError'
    """
    try:
        return _CLASSES[Code(code)]
    except (ValueError, KeyError):
        return UnknownError

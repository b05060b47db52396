"""Millstream: a database for metrics and events that runs inside your process; speaks PromQL.

>>> import numpy as np, millstream
>>> with millstream.open(":memory:") as db:
...     result = db.write(
...         "cpu_usage", {"host": "a"}, timestamps=np.array([0, 1000]), values=np.array([0.5, 0.7])
...     )
...     db.query("cpu_usage", time=1000).series[0].values
array([0.7])

`connect` has the same verbs for a server, and `aio.connect` for programs that use asyncio.
"""

import typing as _typing
from importlib.metadata import version as _version

from millstream import errors
from millstream._database import Database, MetricMetadata, WriteResult, open  # noqa: A004
from millstream._events import Event, Events, NewEvent, Published
from millstream._result import QueryResult, Series

if _typing.TYPE_CHECKING:
    from millstream import aio
    from millstream._remote.client import connect
    from millstream._remote.retries import RetryPolicy

__version__ = _version("millstream")

__all__ = [
    "Database",
    "Event",
    "Events",
    "MetricMetadata",
    "NewEvent",
    "Published",
    "QueryResult",
    "RetryPolicy",
    "Series",
    "WriteResult",
    "aio",
    "connect",
    "errors",
    "open",
]


def __getattr__(name: str) -> _typing.Any:
    """What needs HTTP is imported when it is used: embedded databases start without it."""
    if name == "aio":
        from importlib import import_module

        return import_module("millstream.aio")
    if name == "connect":
        from millstream._remote.client import connect

        return connect
    if name == "RetryPolicy":
        from millstream._remote.retries import RetryPolicy

        return RetryPolicy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Millstream: a database for metrics that runs inside your process and speaks PromQL.

>>> import numpy as np, millstream
>>> with millstream.open(":memory:") as db:
...     result = db.write(
...         "cpu_usage", {"host": "a"}, timestamps=np.array([0, 1000]), values=np.array([0.5, 0.7])
...     )
...     db.query("cpu_usage", time=1000).series[0].values
array([0.7])
"""

from importlib.metadata import version as _version

from millstream import errors
from millstream._database import Database, WriteResult, open  # noqa: A004
from millstream._result import QueryResult, Series

__version__ = _version("millstream")

__all__ = ["Database", "QueryResult", "Series", "WriteResult", "errors", "open"]

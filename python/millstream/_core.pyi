from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

def version() -> str: ...
def run_promql_test(path: str, text: str, features: Sequence[str] = ()) -> PromqlTestResult: ...

class PromqlTestFailure:
    @property
    def line(self) -> int: ...
    @property
    def expression(self) -> str: ...
    @property
    def expected(self) -> str: ...
    @property
    def got(self) -> str: ...

class PromqlTestResult:
    @property
    def passed(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def failures(self) -> list[PromqlTestFailure]: ...

class CancelToken:
    def __init__(self) -> None: ...
    def cancel(self) -> None: ...

class PushResult:
    @property
    def samples(self) -> int: ...
    @property
    def histograms(self) -> int: ...
    @property
    def exemplars(self) -> int: ...
    @property
    def metadata(self) -> int: ...
    @property
    def rejected(self) -> int: ...
    @property
    def errors(self) -> list[tuple[int, str, str]]: ...
    @property
    def offset_token(self) -> str: ...

class QueryResult:
    @property
    def type(self) -> str: ...
    @property
    def warnings(self) -> list[str]: ...
    @property
    def infos(self) -> list[str]: ...
    def data_json(self) -> bytes: ...

class Engine:
    @staticmethod
    def open(
        path: str,
        *,
        partitions: int = 0,
        durability: str = "process",
        retention_ms: int = 0,
        memory_limit_bytes: int = 0,
        out_of_order_window_ms: int = 86_400_000,
        pin_threads: bool = False,
        enabled_features: Sequence[str] = (),
    ) -> Engine: ...
    def close(self) -> None: ...
    def push_remote_write(self, body: bytes) -> PushResult: ...
    def push_text(
        self,
        body: bytes,
        *,
        open_metrics: bool = False,
        default_timestamp_ms: int | None = None,
    ) -> PushResult: ...
    def push_json(self, body: bytes, *, default_timestamp_ms: int | None = None) -> PushResult: ...
    def write(
        self,
        name: str,
        labels: Mapping[str, str],
        timestamps: NDArray[np.int64],
        values: NDArray[np.float64],
    ) -> PushResult: ...
    def series_refs(self, labels: Sequence[Mapping[str, str]]) -> NDArray[np.uint64]: ...
    def append(
        self,
        refs: NDArray[np.uint64],
        timestamps: NDArray[np.int64],
        values: NDArray[np.float64],
    ) -> PushResult: ...
    def query(
        self,
        expr: str,
        time_ms: int,
        *,
        lookback_ms: int = 0,
        timeout_ms: int = 0,
        max_samples: int = 0,
        cancel: CancelToken | None = None,
    ) -> QueryResult: ...
    def query_range(
        self,
        expr: str,
        start_ms: int,
        end_ms: int,
        step_ms: int,
        *,
        lookback_ms: int = 0,
        timeout_ms: int = 0,
        max_samples: int = 0,
        cancel: CancelToken | None = None,
    ) -> QueryResult: ...
    def series(
        self, matchers: Sequence[str], start_ms: int, end_ms: int, limit: int = 0
    ) -> list[dict[str, str]]: ...
    def label_names(
        self, matchers: Sequence[str], start_ms: int, end_ms: int, limit: int = 0
    ) -> list[str]: ...
    def label_values(
        self, name: str, matchers: Sequence[str], start_ms: int, end_ms: int, limit: int = 0
    ) -> list[str]: ...
    def metadata(
        self, metric: str = "", limit: int = 0, limit_per_metric: int = 0
    ) -> dict[str, list[tuple[str, str, str]]]: ...
    def tsdb_status(self, limit: int = 10) -> dict[str, Any]: ...
    def stats(self) -> dict[str, float | int]: ...
    def format_query(self, expr: str) -> str: ...

"""`/api/v1/parse_query` gives the trees that a real Prometheus gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.services.http import Client
from tests.services.millstream import Millstream
from tests.services.prometheus import Prometheus, PrometheusConfig

pytestmark = pytest.mark.e2e

EXPRESSIONS = (
    'sum by (a,b) (rate(http_requests_total{job="x",i!~"a.*"}[5m] offset 1m @ 3.5)) '
    "/ on(a) group_left(c) up > bool 2",
    "topk(3, -(a or b))",
    "vector(1e100) + 5m + 0x1F + Inf",
    "1e-7 + 123456789012345678901234 - -0.1 * NaN ^ -Inf",
    "-1",
    "+foo",
    '{"a.b"="c","d"}',
    '{__name__=~"a|b",le!=""}',
    'label_replace(up,"a","b\\n","ü<","")',
    "count_values without () ('x', up)",
    "a * on() group_right(x, y) b",
    "a unless ignoring(z) b and c",
    "foo offset -5m",
    "a @ -1.5 + b @ start() + c @ end()",
    "max_over_time(foo[5m:])",
    "max_over_time(rate(foo[1m])[1h:5m] @ 7 offset 2h)",
    "foo[300.5]",
    "round(up)",
    "days_in_month()",
    'label_join(up,"a",",")',
    '"s"',
    "quantile without(a) (0.9, ((up)))",
    "a{",
    "rate(foo)",
    "foo[5m",
    "sum by (a) without (b) (c)",
)


class Servers:
    """Both, and how to ask them."""

    def __init__(self, stack: ExitStack, folder: Any) -> None:
        prometheus = Prometheus(folder / "prometheus", PrometheusConfig(scrape_itself=False))
        stack.enter_context(prometheus)
        ours = stack.enter_context(Millstream(folder / "data", folder / "logs"))
        self.prometheus = stack.enter_context(Client(prometheus.url))
        self.ours = stack.enter_context(Client(ours.url))


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack, tmp_path_factory.mktemp("parse_query"))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_trees_and_errors_are_alike(servers: Servers, expression: str) -> None:
    asked = {"query": expression}
    expected = servers.prometheus.get("/api/v1/parse_query", asked)
    answer = servers.ours.get("/api/v1/parse_query", asked)
    assert answer.status == expected.status
    assert json.loads(answer.body) == json.loads(expected.body)

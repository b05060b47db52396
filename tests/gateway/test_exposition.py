"""The gateway reads lines of exposition as the engine does: it takes the same, and says the same."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from millstream_gateway.backends.embedded import EmbeddedBackend
from millstream_gateway.schemas.access import TenantId
from millstream_gateway.schemas.push import WriteBody
from millstream_gateway.services.exposition import Description, Refused, Sample, read_lines
from millstream_gateway.settings import StorageSettings
from tests.gateway.conftest import needs_engine

_PARTS = st.sampled_from(
    [
        *("a", "a:b", "é", "1a", "", "_x", "__name__", "le", "x y"),
        *(" ", "\t", "  ", "\r", "{", "}", "{}", ",", "=", '"', '""', '"v"', '"\\"', '"\\n"'),
        *('{a="b"}', '{"n m",a="b"}', '{a="b",}', '{a="}"}', '{a="b",a="c"}', "#", "# ", "# EOF"),
        *("# TYPE ", "# HELP ", "# UNIT ", "counter", "untyped", "gauge ", '"q n"', "\\", "\\x"),
        *(
            "1",
            "-1",
            "+1",
            "+-1",
            "1.",
            ".5",
            "1e3",
            "1e",
            "1e999",
            "1_0",
            "0x1p3",
            "\u0663",
            "--1",
        ),
        *(
            "nan",
            "NaN",
            "+NaN",
            "-nan",
            "nan(1)",
            "Inf",
            "-inf",
            "+Infinity",
            "infi",
            "1732000000000",
        ),
        *('# {id="x"} 1', '# {id="x"}', "# 1", "9223372036854775808", "1e16"),
    ]
)
_TIMES = itertools.count(1_000_000_000_000, 1_000)


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBackend]:
    folder = tmp_path_factory.mktemp("engine")
    made = EmbeddedBackend(StorageSettings(path=str(folder / "data"), retention="100y"))
    made.open()
    yield made
    made.close()


@needs_engine
@given(line=st.lists(_PARTS, max_size=8).map("".join), open_metrics=st.booleans())
@example('a{b="c" ,d="e"}\t1', False)
@example('{"a b"} 1', False)
@example('a {b="c"}1', False)
@example('a{b="c}', False)
@example('a{b="c"', False)
@example('a{"b" = "c"} 1', False)
@example('a{b="c"d="e"} 1', False)
@example("a} 1", False)
@example("a{b=c} 1", False)
@example('{a="b",a="c"} 1', False)
@example("# HELP a", False)
@example('# TYPE "a', False)
@hypothesis_settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_line_is_taken_by_both_or_refused_by_both_with_the_same_reason(
    backend: EmbeddedBackend, line: str, open_metrics: bool
) -> None:
    body = (line + "\n# EOF\n").encode()
    form = "open_metrics" if open_metrics else "text"
    outcome = backend.push(TenantId(0), WriteBody(form, body, next(_TIMES)))
    read = list(read_lines(body, open_metrics=open_metrics))
    refused = {number: what.reason for number, what in read if isinstance(what, Refused)}
    samples = [what for _, what in read if isinstance(what, Sample)]
    errors: dict[int, set[str]] = {}
    for error in outcome.errors:
        # Whether a time fits what is stored is no matter of the line.
        if error.code == "INVALID_ARGUMENT":
            errors.setdefault(error.position, set()).add(error.reason)
    assert refused.keys() == errors.keys(), (refused, errors)
    for number, reason in refused.items():
        assert reason in errors[number] or "exemplar" in reason, (reason, errors[number])
    if not outcome.errors:
        assert len(samples) == outcome.samples


def test_what_a_line_says_is_unescaped() -> None:
    text = '# HELP a one\\ntwo\n{"a b","c d"="\\"\\\\\\n\\t",e=""} 1e3\na\t-Inf\r\n'
    found = [what for _, what in read_lines(text.encode(), open_metrics=False)]
    assert found == [
        Description("HELP", "a", "one\ntwo"),
        Sample("a b", {"c d": '"\\\n\\t', "e": ""}, 1000.0, has_timestamp=False),
        Sample("a", {}, -math.inf, has_timestamp=False),
    ]


def test_bytes_that_are_no_text_refuse_their_line_alone() -> None:
    body = b'a{b="\xff"} 1\n# \xff\n# HELP a \xff\na 1\n'
    found = list(read_lines(body, open_metrics=False))
    assert [(number, type(what)) for number, what in found] == [
        (1, Refused),
        (3, Refused),
        (4, Sample),
    ]

"""What the gateway reads of text exposition before it is stored: the engine's reader, line by line."""

from __future__ import annotations

import math

from millstream_gateway.backends.wire import TextSample, read_exposition
from millstream_gateway.schemas.push import ItemError
from tests.gateway.conftest import needs_engine

pytestmark = needs_engine


def test_what_a_line_says_is_unescaped() -> None:
    text = '# HELP a one\\ntwo\n{"a b","c d"="\\"\\\\\\n\\t",e=""} 1e3\na\t-Inf 5\r\n'
    read = read_exposition(text.encode(), open_metrics=False)
    assert read.helps == {"a": "one\ntwo"}
    assert read.types == {}
    assert read.samples == [
        TextSample(2, "a b", {"c d": '"\\\n\\t'}, 1000.0, has_timestamp=False),
        TextSample(3, "a", {}, -math.inf, has_timestamp=True),
    ]
    assert (read.refused, read.errors) == (0, ())


def test_bytes_that_are_no_text_refuse_their_line_alone() -> None:
    body = b'a{b="\xff"} 1\n# \xff\n# HELP a \xff\n# TYPE a untyped\na 1\n'
    read = read_exposition(body, open_metrics=False)
    assert [sample.line for sample in read.samples] == [5]
    assert read.types == {"a": "untyped"}
    assert read.refused == 2
    assert read.errors == (
        ItemError(1, "INVALID_ARGUMENT", 'the value of label "b" is not UTF-8 at byte 0'),
        ItemError(3, "INVALID_ARGUMENT", "# HELP is not UTF-8 text"),
    )


def test_refusals_are_counted_beyond_those_that_are_kept() -> None:
    read = read_exposition(b"a\n" * 1000 + b"b 1\n", open_metrics=True)
    assert read.refused == 1001
    assert len(read.errors) == 100
    assert [sample.name for sample in read.samples] == ["b"]

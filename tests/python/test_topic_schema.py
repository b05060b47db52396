"""JSON Schemas of topics: as another implementation understands them, and through the verbs of Python."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import millstream
from millstream import _core, errors

DRAFTS = {
    "http://json-schema.org/draft-07/schema#": jsonschema.Draft7Validator,
    "https://json-schema.org/draft/2020-12/schema": jsonschema.Draft202012Validator,
}

NAMES = st.sampled_from(["a", "b", "ab", "x-1", "ü", ""])
NUMBERS = st.one_of(
    st.integers(-3, 12),
    st.sampled_from([0.5, 1.0, 2.0, -0.0, 2.5, 1e300, 2**53 + 1, 2**63, -(2**63)]),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), NUMBERS, st.sampled_from(["", "a", "ab", "abc", "ü€𝄞"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=8,
)
PATTERNS = st.sampled_from(["^a", "b$", "^x-[0-9]+$", ".", "^$", "^(a|b)*$", "\\u00fc", "\\d{1,2}"])
COUNTS = st.integers(0, 4)
TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])


def keywords(inner: st.SearchStrategy[Any], draft: str) -> st.SearchStrategy[dict[str, Any]]:
    several = st.lists(inner, min_size=1, max_size=3)
    common: dict[str, st.SearchStrategy[Any]] = {
        "type": st.one_of(TYPES, st.lists(TYPES, min_size=1, max_size=3, unique=True)),
        "enum": st.lists(VALUES, min_size=1, max_size=4),
        "const": VALUES,
        "minimum": NUMBERS,
        "maximum": NUMBERS,
        "exclusiveMinimum": NUMBERS,
        "exclusiveMaximum": NUMBERS,
        "multipleOf": st.sampled_from([1, 2, 3, 0.5, 2.5]),
        "minLength": COUNTS,
        "maxLength": COUNTS,
        "pattern": PATTERNS,
        "minItems": COUNTS,
        "maxItems": COUNTS,
        "uniqueItems": st.booleans(),
        "contains": inner,
        "minProperties": COUNTS,
        "maxProperties": COUNTS,
        "required": st.lists(NAMES, max_size=3, unique=True),
        "properties": st.dictionaries(NAMES, inner, max_size=3),
        "patternProperties": st.dictionaries(PATTERNS, inner, max_size=2),
        "additionalProperties": inner,
        "propertyNames": inner,
        "allOf": several,
        "anyOf": several,
        "oneOf": several,
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
        "$ref": st.sampled_from(["#/definitions/one", "#/definitions/two"]),
        "unheardOf": VALUES,
    }
    if "draft-07" in draft:
        common |= {
            "items": st.one_of(inner, several),
            "additionalItems": inner,
            "dependencies": st.dictionaries(
                NAMES, st.one_of(inner, st.lists(NAMES, max_size=2, unique=True)), max_size=2
            ),
        }
    else:
        common |= {
            "prefixItems": several,
            "items": inner,
            "minContains": COUNTS,
            "maxContains": COUNTS,
            "dependentRequired": st.dictionaries(
                NAMES, st.lists(NAMES, max_size=2, unique=True), max_size=2
            ),
            "dependentSchemas": st.dictionaries(NAMES, inner, max_size=2),
        }
    return st.lists(st.sampled_from(sorted(common)), max_size=4, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({name: common[name] for name in chosen})
    )


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Any]:
    draft = draw(st.sampled_from(sorted(DRAFTS)))
    inner = st.recursive(
        st.one_of(st.booleans(), keywords(st.booleans(), draft)),
        lambda deeper: keywords(deeper, draft),
        max_leaves=6,
    )
    made = draw(keywords(inner, draft))
    # Without references: they lead here from above, and never in a circle.
    plain = st.fixed_dictionaries({"type": TYPES})
    definitions = {"one": draw(plain), "two": {"properties": {"a": {"$ref": "#/definitions/one"}}}}
    return {**made, "$schema": draft, "definitions": definitions}


@pytest.fixture(scope="module")
def engine() -> Iterator[_core.Engine]:
    with_topics = _core.Engine.open(":memory:")
    yield with_topics
    with_topics.close()


NUMBER = count()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schema=schemas(), payloads=st.lists(VALUES, min_size=1, max_size=8))
def test_payloads_match_as_another_implementation_has_it(
    engine: _core.Engine, schema: dict[str, Any], payloads: list[Any]
) -> None:
    name = f"t{next(NUMBER)}"
    engine.create_topic(name, durability="ephemeral", schema=schema)
    answers = engine.publish(
        [
            (name, json.dumps(one).encode(), True, None, [], None, None, None, None)
            for one in payloads
        ]
    )
    engine.delete_topic(name)
    other = DRAFTS[schema["$schema"]](schema)
    for payload, answer in zip(payloads, answers, strict=True):
        assert isinstance(answer, tuple) == other.is_valid(payload), (payload, answer)


def test_a_schema_is_set_shown_changed_and_removed() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 2**60}}}
    with millstream.open(":memory:") as db:
        topic = db.topic("orders")
        assert topic.create(schema=schema)["schema"] == schema
        assert topic.describe()["schema"] == schema
        first, second, third = topic.publish_many([{"n": 1}, {"n": "ü"}, b"bytes"], strict=False)
        assert isinstance(first, millstream.Published)
        assert isinstance(second, errors.InvalidArgumentError)
        assert 'at "/n": "type": it must be integer, not string' in str(second)
        assert isinstance(third, errors.InvalidArgumentError)
        assert "must be JSON" in str(third)
        assert topic.alter(retention_ms=60_000)["schema"] == schema
        assert topic.alter(schema=None)["schema"] is None
        topic.publish({"n": "x"})
        assert topic.alter(schema={})["schema"] == {}
        assert db.topic("other").create()["schema"] is None


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ([], "must be an object"),
        ("{}", "must be an object"),
        ({"a": object()}, "nothing that JSON can say"),
        ({"maximum": float("nan")}, "nothing that JSON can say"),
        ({"title": "\ud800"}, "JSON"),
        ({"maximum": 10**400}, "not JSON"),
        ({"$ref": "https://example.com/a.json"}, "nothing is fetched"),
        ({"$comment": "x" * 70_000}, "at most 65536"),
    ],
)
def test_what_is_no_schema_is_refused_and_makes_no_topic(
    engine: _core.Engine, schema: Any, said: str
) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=said):
        engine.create_topic("refused", schema=schema)
    with pytest.raises(errors.NotFoundError):
        engine.describe_topic("refused")


def test_a_schema_without_end_is_refused(engine: _core.Engine) -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"not": deep}
    around: dict[str, Any] = {}
    around["not"] = around
    for schema in (deep, around):
        with pytest.raises(errors.InvalidArgumentError):
            engine.create_topic("refused", schema=schema)

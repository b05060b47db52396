"""Metric rules of a topic as one line of text: ``NAME = counter(FIELD) by LABEL=FIELD where …``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from millstream.errors import InvalidArgumentError

_FORM: Final = (
    "NAME [= counter(FIELD)|gauge(FIELD)] [by LABEL=FIELD,…] [where FILTER], or a JSON object"
)
_RULE: Final = re.compile(
    r"\s*(?P<metric>[A-Za-z_:][A-Za-z0-9_:]*)"
    r"(?:\s*=\s*(?P<type>counter|gauge)\s*(?:\(\s*(?P<value>[^()]*?)\s*\))?)?"
    r"(?:\s+by\s+(?P<labels>.+?))?"
    r"(?:\s+where\s+(?P<filter>.+))?\s*\Z",
    re.ASCII,
)


def parse_rule(text: str) -> dict[str, Any]:
    """The rule that the text says; `InvalidArgumentError` when it says none.

    >>> parse_rule("orders_total by region=payload.region")
    {'metric': 'orders_total', 'type': 'counter', 'labels': {'region': 'payload.region'}}
    >>> parse_rule("celsius = gauge(payload.c) where payload.c < 100")
    {'metric': 'celsius', 'type': 'gauge', 'value': 'payload.c', 'filter': 'payload.c < 100'}
    """
    if text.lstrip().startswith("{"):
        try:
            rule = json.loads(text)
        except ValueError as error:
            raise InvalidArgumentError(f"--metric {text[:100]!r} is no JSON: {error}") from None
        return dict(rule)
    found = _RULE.match(text)
    if found is None:
        raise InvalidArgumentError(f"--metric {text[:100]!r} is not {_FORM}")
    made: dict[str, Any] = {"metric": found["metric"], "type": found["type"] or "counter"}
    if found["value"]:
        made["value"] = found["value"]
    if found["labels"]:
        made["labels"] = dict(_label(one) for one in found["labels"].split(","))
    if found["filter"]:
        made["filter"] = found["filter"].strip()
    return made


def _label(text: str) -> tuple[str, str]:
    name, equals, field = text.partition("=")
    if not equals:
        raise InvalidArgumentError(f"a label is NAME=FIELD, not {text.strip()[:100]!r}")
    return name.strip(), field.strip()


def show_rule(rule: Mapping[str, Any]) -> str:
    """The text of a rule.

    >>> show_rule({"metric": "m", "type": "counter", "value": "payload.a", "labels": {"k": "key"}})
    'm = counter(payload.a) by k=key'
    """
    text = f"{rule['metric']} = {rule.get('type', 'counter')}"
    if rule.get("value"):
        text += f"({rule['value']})"
    if rule.get("labels"):
        text += " by " + ",".join(f"{name}={field}" for name, field in rule["labels"].items())
    if rule.get("filter"):
        text += f" where {rule['filter']}"
    return text

"""What a user can paste into a request, for routes whose bodies the framework knows, and for parts of paths.

Secrets and ids in them are of the right form; one's own take their place.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

_API_KEY: Final = "ms_4f0c2k9x1v7q_b8Wn3vYx0KqZ5rTdM2pLs7Hc"
_REFRESH: Final = {"refresh_token": "msr_q1w2e3r4t5y6_Zx8Cv7Bn6Mq5Lk4Jh3Gf"}
_FORM_TYPES: Final = ("application/json", "application/x-www-form-urlencoded")

_BODIES: Final[Mapping[tuple[str, str], object]] = {
    ("post", "/v1/auth/token"): {"grant_type": "client_credentials", "client_secret": _API_KEY},
    ("post", "/v1/auth/refresh"): _REFRESH,
    ("post", "/v1/auth/logout"): _REFRESH,
    ("post", "/v1/auth/password"): {
        "old_password": "correct horse battery",
        "new_password": "staple of the new one",
    },
    ("post", "/v1/admin/keys"): {
        "name": "prometheus in Oslo",
        "role": "user",
        "tenants": ["default"],
        "verbs": ["write"],
        "topics": ["orders", "payments.*"],
    },
    ("post", "/v1/admin/keys/{key_id}/rotate"): {"overlap": "1h"},
    ("post", "/v1/admin/users"): {
        "name": "ann",
        "password": "correct horse battery",
        "role": "readonly",
        "tenants": ["default"],
    },
    ("patch", "/v1/admin/users/{name}"): {"disabled": True},
    ("post", "/v1/admin/tenants"): {"name": "acme"},
    ("post", "/v1/admin/revocations"): {
        "issuer": "https://login.example.org",
        "subject": "ann@example.org",
    },
    ("post", "/v1/admin/signing-keys/rotate"): {"forget": False},
    ("post", "/v1/admin/acls"): {
        "subject": "role:readonly",
        "resource": "metric",
        "pattern": '{__name__=~"node_.*",env="prod"}',
        "effect": "deny",
        "verbs": ["read"],
    },
    ("post", "/v1/topics"): {"name": "orders", "partitions": 1, "retention_ms": 604_800_000},
    ("patch", "/v1/topics/{topic}"): {"retention_ms": 86_400_000},
    ("post", "/v1/topics/subscribe"): {
        "topics": ["orders"],
        "from": "earliest",
        "filter": "payload.amount > 10",
    },
    ("post", "/v1/groups/{group}/offsets"): {
        "offsets": [{"topic": "orders", "partition": 0, "offset": 0}]
    },
}
_PARAMETERS: Final = {
    "acl_id": "a_3k9x1v7q",
    "event_id": "0190d3c2-7e2a-7000-8000-000000000000",
    "group": "billing",
    "key_id": "4f0c2k9x1v7q",
    "name": "ann",
    "provider": "github",
    "session_id": "q1w2e3r4t5y6",
    "subscription_id": "s_3k9x1v7q",
    "tenant": "acme",
    "topic": "orders",
}
# Where a name of the path means something else.
_PARAMETERS_OF: Final = {
    "/api/v1/label/{name}/values": "job",
    "/metrics/job/{group}": "nightly/instance/db1",
    "/metrics/job@base64/{group}": "bmlnaHRseQ==/instance/db1",
}
_PUSHED: Final = "# TYPE rows_copied counter\nrows_copied_total 1027\n# EOF\n"


def add_examples(path: str, method: str, operation: dict[str, Any]) -> None:
    """Give the operation examples where it has none."""
    content = operation.get("requestBody", {}).get("content", {})
    for body in content.values():
        # What the model of a body says itself.
        if own := body["schema"].get("examples"):
            body.setdefault("example", own[0])
    if (example := _BODIES.get((method, path))) is not None:
        for media in _FORM_TYPES:
            if media in content:
                content[media].setdefault("example", example)
    if path in _PARAMETERS_OF and (pushed := content.get("application/openmetrics-text")):
        pushed.setdefault("example", _PUSHED)
    if path.endswith("/v1/metrics") and (otlp := content.get("application/json")):
        otlp.setdefault("example", _otlp())
    for one in operation.get("parameters", ()):
        if one["in"] == "path":
            shown = _PARAMETERS_OF.get(path, _PARAMETERS.get(one["name"]))
            if shown is not None:
                one.setdefault("example", shown)


def _otlp() -> dict[str, Any]:
    """A gauge of now."""
    point = {"timeUnixNano": str(time.time_ns()), "asDouble": 21.5}
    return {
        "resourceMetrics": [
            {
                "resource": {
                    "attributes": [{"key": "service.name", "value": {"stringValue": "heating"}}]
                },
                "scopeMetrics": [
                    {
                        "metrics": [
                            {
                                "name": "room.temperature",
                                "unit": "Cel",
                                "gauge": {"dataPoints": [point]},
                            }
                        ]
                    }
                ],
            }
        ]
    }

"""The OpenAPI document: what holds for many routes is said here, once.

The framework knows parameters and bodies; credentials, tenants, the forms of errors and examples
come from what the routes declare they need and from the dialect that they speak.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.routing import BaseRoute, Route

from millstream.errors import Code
from millstream_gateway.dependencies import Access, Reach
from millstream_gateway.errors import Dialect, dialect_of
from millstream_gateway.guard import Guard
from millstream_gateway.routers.examples import add_examples
from millstream_gateway.schemas.access import TENANT_HEADER, Action
from millstream_gateway.schemas.otlp import JSON, PROTOBUF

_DESCRIPTION: Final = """\
Metrics over HTTP: Prometheus's query API, and writes in the forms that agents speak.

**Credentials.** An API key (`ms_<id>_<secret>`, from `millstream key create`) or a JWT as
`Authorization: Bearer …`; a key also as `X-API-Key`, or as the password of HTTP Basic for clients
that know nothing else. A server without any configured asks for none.

**Tenants.** `X-Scope-OrgID` names one that the caller belongs to; a caller of one need not send it.

**Errors.** Routes below `/api/v1` answer in Prometheus's envelope, all others with RFC 9457
problems. A problem's `code` is the name of one of gRPC's status codes: it tells apart what one
status stands for, such as `INVALID_ARGUMENT` and `FAILED_PRECONDITION`, which are both 400. 429 and
503 come with `Retry-After`.
"""

_OTHERWISE: Final = "Any other failure: the status says which kind."
_ERRORS: Final[Mapping[int, str]] = {
    400: "The request is not understood, or asks for what cannot be.",
    401: "No credentials, or none that are good.",
    403: "The caller may not do this.",
    404: "There is none, or it is not the caller's.",
    429: "A limit was reached; `Retry-After` says when to come again.",
    503: "Too busy or not ready; `Retry-After` says when to come again.",
}
_RETRY_HEADERS: Final = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string"}}
}

_SCHEMES: Final = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "API key (ms_…) or JWT",
        "description": "Paste an API key, such as `ms_4f0c2k9x1v7q_…`, or a JWT.",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "Any user name; the API key is the password.",
    },
}

_PROMETHEUS: Final = (Dialect.PROMETHEUS_QUERY, Dialect.PROMETHEUS_WRITE)

# What the framework says of a route that makes its answer itself.
_ANYTHING: Final[Mapping[str, Any]] = {"application/json": {"schema": {}}}
_STRINGS: Final = {"type": "array", "items": {"type": "string"}}
_SCHEMAS: Final[Mapping[str, Any]] = {
    "Problem": {
        "title": "Problem",
        "description": "An RFC 9457 problem.",
        "type": "object",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": {"type": "string", "examples": ["about:blank"]},
            "title": {"type": "string", "examples": ["Not Found"]},
            "status": {"type": "integer", "examples": [404]},
            "code": {"enum": [code.name for code in Code], "examples": ["NOT_FOUND"]},
            "detail": {"type": "string", "examples": ["there is no tenant acme"]},
        },
    },
    "PrometheusSuccess": {
        "title": "PrometheusSuccess",
        "description": "Prometheus's envelope of an answer.",
        "type": "object",
        "required": ["status", "data"],
        "properties": {
            "status": {"const": "success"},
            "data": {},
            "warnings": _STRINGS,
            "infos": _STRINGS,
        },
    },
    "PrometheusError": {
        "title": "PrometheusError",
        "description": "Prometheus's envelope of a failure.",
        "type": "object",
        "required": ["status", "errorType", "error"],
        "properties": {
            "status": {"const": "error"},
            "errorType": {"type": "string", "examples": ["bad_data"]},
            "error": {
                "type": "string",
                "examples": ['invalid parameter "query": 1:4: parse error: unclosed left paren'],
            },
            "data": {},
        },
    },
}

_TENANT_PARAMETER: Final = {
    "name": TENANT_HEADER,
    "in": "header",
    "required": False,
    "description": "Whose data is meant; not needed by a caller of one tenant.",
    "schema": {"type": "string", "pattern": r"^[A-Za-z0-9_.-]{1,150}$"},
    "example": "default",
}


def completed(
    document: dict[str, Any], routes: Iterable[BaseRoute], *, is_open: bool
) -> dict[str, Any]:
    """The framework's document with everything that the routes have in common.

    ``is_open`` says that no credentials are configured, so that nobody needs any.
    """
    access_of = {
        (route.path_format, method): route.app.access
        for route in routes
        if isinstance(route, Route) and isinstance(route.app, Guard)
        for method in route.methods or ()
    }
    document["info"]["description"] = _DESCRIPTION
    document["servers"] = [{"url": "/", "description": "This server"}]
    components = document.setdefault("components", {})
    components["securitySchemes"] = _SCHEMES
    schemas = components.setdefault("schemas", {})
    schemas.update(_SCHEMAS)
    # Of the framework's own form of a bad request, which no route answers with.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            add_examples(path, method, operation)
            access = access_of.get((path, method.upper()))
            if access is not None:
                dialect = dialect_of(path, method.upper())
                _complete(dialect, operation, access, is_open=is_open)
    return document


def _complete(
    dialect: Dialect, operation: dict[str, Any], access: Access, *, is_open: bool
) -> None:
    is_public = access.action is Action.PUBLIC
    if is_public:
        operation["security"] = []
    else:
        anonymous: list[dict[str, list[str]]] = [{}] if is_open else []
        operation["security"] = [*anonymous, *({name: []} for name in _SCHEMES)]
    if access.reach is Reach.TENANT:
        parameters = operation.setdefault("parameters", [])
        if not any(one.get("name") == TENANT_HEADER for one in parameters):
            parameters.append(_TENANT_PARAMETER)
    answers = operation.setdefault("responses", {})
    answers.pop("422", None)
    good = answers.get("200", {})
    if dialect in _PROMETHEUS and good.get("content", _ANYTHING) == _ANYTHING and good:
        good["content"] = _content("application/json", "PrometheusSuccess")
    known = dict(_ERRORS) if not is_public else {429: _ERRORS[429], 503: _ERRORS[503]}
    for status, text in known.items():
        answers.setdefault(str(status), {"description": text})
    answers.setdefault("default", {"description": _OTHERWISE})
    for status, told in answers.items():
        if status == "default" or int(status) >= HTTPStatus.BAD_REQUEST:
            told.setdefault("content", _error_content(dialect))
            if status in ("429", "503"):
                told.setdefault("headers", _RETRY_HEADERS)
    operation["responses"] = dict(sorted(answers.items()))


def _error_content(dialect: Dialect) -> dict[str, Any]:
    if dialect in _PROMETHEUS:
        return _content("application/json", "PrometheusError")
    if dialect is Dialect.PROBLEM:
        return _content("application/problem+json", "Problem")
    if dialect is Dialect.OTLP:
        return {
            PROTOBUF: {"schema": {"type": "string", "format": "binary"}},
            JSON: {"schema": {"type": "object"}},
        }
    # Some other system's own form.
    return {"application/json": {"schema": {"type": "object"}}}


def _content(media: str, schema: str) -> dict[str, Any]:
    return {media: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}

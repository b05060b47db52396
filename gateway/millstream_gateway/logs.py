"""Structured logs on standard error: one JSON object a line, so no value can forge a line."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from typing import Final

import orjson
import structlog

from millstream_gateway.settings import LogSettings

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


#: Of the request that is being answered; empty outside of requests.
current_correlation_id: Final[ContextVar[str]] = ContextVar("correlation_id", default="")


def configure_logs(settings: LogSettings) -> None:
    """Send structlog's and the standard library's records the same way."""
    level = _LEVELS[settings.level]
    shared: list[structlog.typing.Processor] = [
        _add_correlation_id,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers: list[structlog.typing.Processor]
    if settings.format == "json":
        renderers = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ]
    else:
        # repr() of every value keeps line breaks out of the line.
        renderers = [
            structlog.dev.ConsoleRenderer(
                colors=False, exception_formatter=structlog.dev.plain_traceback
            )
        ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # The server's own chatter repeats what the application logs better.
    logging.getLogger("uvicorn.error").setLevel(max(level, logging.WARNING))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )


def _add_correlation_id(
    _logger: object, _method: str, record: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    if correlation_id := current_correlation_id.get():
        record.setdefault("correlation_id", correlation_id)
    return record


def _dumps(record: object, **_options: object) -> str:
    return orjson.dumps(record, default=str).decode()

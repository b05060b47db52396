"""Every setting of the server: name, unit, default and bounds.

Values come from, in falling order: keyword arguments (command line flags), environment variables
(``MILLSTREAM_LIMITS__QUERY_TIMEOUT``), one YAML file, the defaults below. Importing this module
reads nothing; `load_settings` does. An unknown key is an error, because a misspelt limit that is
silently ignored is no limit.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from millstream.errors import InvalidArgumentError
from millstream.times import format_duration, parse_duration_ms

ENV_PREFIX: Final = "MILLSTREAM_"
# What the commands that talk to a server read; not about this server.
_CLIENT_VARIABLES: Final = frozenset({"MILLSTREAM_TOKEN", "MILLSTREAM_TENANT"})
MEMORY: Final = ":memory:"
_CONFIG_BYTES_MAX: Final = 1 << 20
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30


def _duration_from_input(value: object) -> int:
    """Text as Prometheus writes durations; a bare number is seconds."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("a duration such as 15d or 30s is needed")
    try:
        return parse_duration_ms(str(value))
    except InvalidArgumentError as error:
        raise ValueError(str(error)) from None


DurationMs = Annotated[
    int,
    BeforeValidator(_duration_from_input),
    PlainSerializer(format_duration, return_type=str),
]

_ADDRESS: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})\Z")
_DAY_MS: Final = 86_400_000
_SECOND_MS: Final = 1_000


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


_ADMIN_KEY_LENGTH_MIN: Final = 16


def _long_enough(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if len(text) < _ADMIN_KEY_LENGTH_MIN or not text.isascii() or not text.isprintable():
        raise ValueError(f"needs at least {_ADMIN_KEY_LENGTH_MIN} printable ASCII characters")
    if " " in text:
        raise ValueError("must not contain a space")
    return key


def _host_and_port(address: str) -> str:
    match = _ADDRESS.match(address)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise ValueError(f"{address!r} is not host:port, such as 127.0.0.1:8081 or [::1]:8081")
    return address


class ServerSettings(_Section):
    """Where the server listens, and how it treats its connections."""

    host: str = Field(default="127.0.0.1", min_length=1, max_length=255)
    port: int = Field(default=8080, ge=0, le=65535)
    connections_max: int = Field(default=1024, ge=1, le=100_000)
    backlog: int = Field(default=512, ge=1, le=65_535)
    keep_alive: DurationMs = Field(default=75 * _SECOND_MS, ge=_SECOND_MS, le=3_600_000)
    header_timeout: DurationMs = Field(default=10 * _SECOND_MS, ge=100, le=600_000)
    body_timeout: DurationMs = Field(default=60 * _SECOND_MS, ge=100, le=3_600_000)
    shutdown_grace: DurationMs = Field(default=30 * _SECOND_MS, ge=0, le=3_600_000)
    cors_origin: str = Field(default="*", max_length=200)


class LimitsSettings(_Section):
    """What one request, and all requests together, may use."""

    header_bytes: int = Field(default=64 * 1024, ge=1024, le=_MIB)
    form_bytes: int = Field(default=_MIB, ge=1024, le=64 * _MIB)
    remote_write_bytes: int = Field(default=32 * _MIB, ge=1024, le=_GIB)
    remote_write_decoded_bytes: int = Field(default=32 * _MIB, ge=1024, le=32 * _MIB)
    import_bytes: int = Field(default=64 * _MIB, ge=1024, le=_GIB)
    json_bytes: int = Field(default=16 * _MIB, ge=1024, le=_GIB)
    gzip_ratio: int = Field(default=200, ge=2, le=1100)
    ingest_bytes_in_flight: int = Field(default=256 * _MIB, ge=1024, le=64 * _GIB)
    ingest_threads: int = Field(default=4, ge=1, le=256)
    ingest_queue: int = Field(default=256, ge=0, le=100_000)
    concurrent_queries: int = Field(default=20, ge=1, le=1024)
    query_queue: int = Field(default=64, ge=0, le=100_000)
    query_timeout: DurationMs = Field(default=120 * _SECOND_MS, ge=1, le=3_600_000)
    query_lookback: DurationMs = Field(default=300 * _SECOND_MS, ge=1, le=_DAY_MS)
    query_points: int = Field(default=11_000, ge=1, le=1_000_000)
    max_query_samples: int = Field(default=50_000_000, ge=1, le=10**12)
    tenants: int = Field(default=1_000, ge=1, le=100_000)


class StorageSettings(_Section):
    """The embedded engine and its folder."""

    path: str = Field(default="data", min_length=1, max_length=4096)
    partitions: int = Field(default=0, ge=0, le=4096)
    durability: Literal["process", "fsync"] = "process"
    retention: DurationMs = Field(default=0, ge=0, le=36_500 * _DAY_MS)
    memory_limit_bytes: int = Field(default=0, ge=0, le=1 << 50)
    out_of_order_window: DurationMs = Field(default=_DAY_MS, ge=0, le=36_500 * _DAY_MS)
    pin_threads: bool = False
    enabled_features: tuple[str, ...] = ()


class AuthSettings(_Section):
    """Who may come in. Keys themselves live in the meta store."""

    admin_key: Annotated[SecretStr, AfterValidator(_long_enough)] | None = None
    failed_attempts_per_minute: int = Field(default=30, ge=1, le=60_000)
    last_used_interval: DurationMs = Field(default=60 * _SECOND_MS, ge=_SECOND_MS, le=_DAY_MS)


class MetaSettings(_Section):
    """Where keys, tenants and the audit log live. Empty: in the folder of the engine."""

    path: str = Field(default="", max_length=4096)


class NodesSettings(_Section):
    """Nodes that hold the data, in place of an embedded engine. None: the engine is embedded."""

    addresses: tuple[Annotated[str, AfterValidator(_host_and_port)], ...] = Field(
        default=(), max_length=1
    )
    timeout: DurationMs = Field(default=60 * _SECOND_MS, ge=1, le=3_600_000)
    message_bytes: int = Field(default=256 * _MIB, ge=_MIB, le=_GIB)


class LogSettings(_Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class SampleSettings(_Section):
    """Sampling of this machine and of the server itself into the engine."""

    host: bool = False
    interval: DurationMs = Field(default=5 * _SECOND_MS, ge=100, le=3_600_000)


class Settings(BaseSettings):
    """The whole configuration, frozen."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )

    server: ServerSettings = ServerSettings()
    limits: LimitsSettings = LimitsSettings()
    storage: StorageSettings = StorageSettings()
    auth: AuthSettings = AuthSettings()
    meta: MetaSettings = MetaSettings()
    nodes: NodesSettings = NodesSettings()
    log: LogSettings = LogSettings()
    sample: SampleSettings = SampleSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # `load_settings` merges the sources itself, so that a constructor reads no environment.
        return (init_settings,)


def load_settings(
    config: Path | None = None,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Read the file and the environment, and put the flags over both.

    Raises `InvalidArgumentError` with one line for each thing that is wrong.
    """
    merged: dict[str, Any] = _read_yaml(config) if config else {}
    _merge(merged, _read_environment(os.environ if environ is None else environ))
    _merge(merged, flags or {})
    try:
        return Settings(**merged)
    except ValidationError as error:
        raise InvalidArgumentError(_explain(error)) from None


def dump_settings(settings: Settings) -> str:
    """The effective configuration as YAML, secrets masked; it can be read back by ``--config``."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


def _merge(into: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_CONFIG_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidArgumentError(f"cannot read {path}: {error.strerror}") from None
    if len(text) > _CONFIG_BYTES_MAX:
        raise InvalidArgumentError(f"{path} is larger than {_CONFIG_BYTES_MAX} bytes")
    try:
        loaded = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"{path} is not valid YAML: {error}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise InvalidArgumentError(f"{path} must hold a mapping of settings")
    # An empty section ("limits:" with everything commented out) means its defaults.
    return {key: {} if value is None else value for key, value in loaded.items()}


def _read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in environ.items():
        if not name.startswith(ENV_PREFIX) or name in _CLIENT_VARIABLES:
            continue
        section, separator, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
        if not separator:
            known = ", ".join(f"{ENV_PREFIX}{field.upper()}__…" for field in Settings.model_fields)
            raise InvalidArgumentError(
                f"unknown setting in the environment: {name} (settings are {known})"
            )
        # Only lists are written as YAML flow in the environment; everything else is one scalar.
        parsed = yaml.safe_load(value) if value.startswith("[") else value
        nested.setdefault(section, {})[key] = parsed
    return nested


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        what = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            what = "unknown setting"
        lines.append(f"{where}: {what}")
    return "; ".join(lines)

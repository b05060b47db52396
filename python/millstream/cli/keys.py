"""``millstream key``: API keys."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

import typer

from millstream.cli.directory import directory_of
from millstream.cli.listing import fields, print_list
from millstream.cli.options import (
    VERBS,
    DataOption,
    OutputOption,
    ServerOption,
    TokenOption,
    day,
    duration,
)

key_app = typer.Typer(no_args_is_help=True, help="API keys: who may come in, and to do what.")

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `millstream key list` shows it.")]


@key_app.command("create")
def create_command(
    name: Annotated[str, typer.Option(help="For people; need not be unique.")],
    role: Annotated[
        Literal["admin", "user", "readonly"], typer.Option(help="What the key may do at most.")
    ],
    tenant: Annotated[
        list[str] | None,
        typer.Option(
            help="Tenant that the key belongs to, made when missing; may be repeated; '*' is all.",
            show_default="default",
        ),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What the key may do, in place of what its role may: read, write, monitor, admin, "
            "or topic:PATTERN; may be repeated."
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="How long the key is good.", show_default="for ever")
    ] = None,
    server: ServerOption = None,
    data: DataOption = None,
    token: TokenOption = None,
) -> None:
    """Make a key and print it, and nothing else, on standard output. It is never shown again.

    Example: millstream key create --name grafana --role readonly --expires 90d --data ./data
    """
    verbs, topics = _scopes(scope or [])
    if expires is not None:
        duration(expires)
    wanted: dict[str, Any] = {
        "name": name,
        "role": role,
        "tenants": tenant or ["default"],
        "verbs": verbs or None,
        "topics": topics or ["*"],
    }
    if expires is not None:
        wanted["expires"] = expires
    with directory_of(server, data, token) as directory:
        made = directory.create_key(wanted)
    _print_secret(made, "made")


@key_app.command("list")
def list_command(
    output: OutputOption = "table",
    server: ServerOption = None,
    data: DataOption = None,
    token: TokenOption = None,
) -> None:
    """List keys without their secrets, which nobody has.

    Example: millstream key list --data ./data
    """
    with directory_of(server, data, token) as directory:
        keys = directory.keys()
    print_list(
        keys,
        (
            *fields("id", "name", "role", "state"),
            ("may", lambda key: " ".join(key["verbs"])),
            *fields("tenants"),
            ("created", lambda key: day(key["created_ms"])),
            ("used", lambda key: day(key["last_used_ms"])),
            ("expires", lambda key: day(key["expires_ms"])),
        ),
        output,
    )


@key_app.command("rotate")
def rotate_command(
    key_id: IdArgument,
    overlap: Annotated[
        str, typer.Option(help="How long the secret before stays good; 0s ends it at once.")
    ] = "1h",
    server: ServerOption = None,
    data: DataOption = None,
    token: TokenOption = None,
) -> None:
    """Give a key a new secret and print it. Its id, role and tenants stay.

    Example: millstream key rotate 4f0c2k9x1v7q --overlap 1d --data ./data
    """
    with directory_of(server, data, token) as directory:
        made = directory.rotate_key(key_id, overlap)
    _print_secret(made, "rotated")


@key_app.command("revoke")
def revoke_command(
    key_id: IdArgument,
    server: ServerOption = None,
    data: DataOption = None,
    token: TokenOption = None,
) -> None:
    """End a key at once and for good.

    Example: millstream key revoke 4f0c2k9x1v7q --data ./data
    """
    with directory_of(server, data, token) as directory:
        ended = directory.revoke_key(key_id)
    sys.stderr.write(f"revoked key {ended['id']} ({ended['name']})\n")


def _scopes(scopes: list[str]) -> tuple[list[str], list[str]]:
    verbs, topics = [], []
    for scope in scopes:
        kind, separator, pattern = scope.partition(":")
        if scope in VERBS:
            verbs.append(scope)
        elif kind == "topic" and separator and pattern:
            topics.append(pattern)
        else:
            raise typer.BadParameter(
                f"{scope} is no scope; these are: {', '.join(VERBS)}, topic:PATTERN"
            )
    return verbs, topics


def _print_secret(made: dict[str, Any], verb: str) -> None:
    sys.stdout.write(f"{made['key']}\n")
    sys.stdout.flush()
    sys.stderr.write(
        f"{verb} key {made['id']}: {made['role']}, may {' '.join(made['verbs'])}, "
        f"tenants {' '.join(made['tenants'])}. Keep it; it is not shown again.\n"
    )

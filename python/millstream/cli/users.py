"""``millstream user``: people who sign in with a password."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Annotated, Literal

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
)
from millstream.cli.remote import Remote
from millstream.errors import InvalidArgumentError

user_app = typer.Typer(
    no_args_is_help=True,
    help="People who sign in with a password, which is asked for on the terminal, or is the first "
    "line of standard input.",
)

# As the service has it; more of a line is not read.
_PASSWORD_CHARACTERS_MAX = 200
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What they sign in as.")]


@user_app.command("create")
def create_command(
    name: NameArgument,
    role: Annotated[
        Literal["admin", "user", "readonly"], typer.Option(help="What the user may do at most.")
    ],
    tenant: Annotated[
        list[str] | None,
        typer.Option(
            help="Tenant that the user belongs to, made when missing; may be repeated; '*' is all.",
            show_default="default",
        ),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What the user may do, in place of what the role may: read, write, monitor, admin; "
            "may be repeated."
        ),
    ] = None,
    server: ServerOption = None,
    data: DataOption = None,
    token: TokenOption = None,
) -> None:
    """Make a user.

    Example: millstream user create ann --role readonly --tenant shop --data ./data
    """
    for one in scope or []:
        if one not in VERBS:
            raise typer.BadParameter(f"{one} is no scope of users; these are: {', '.join(VERBS)}")
    with directory_of(server, data, token) as directory:
        made = directory.create_user(
            {
                "name": name,
                "password": _new_password(f"Password for {name}"),
                "role": role,
                "tenants": tenant or ["default"],
                "verbs": scope,
            }
        )
    sys.stderr.write(
        f"made user {made['name']}: {made['role']}, may {' '.join(made['verbs'])}, "
        f"tenants {' '.join(made['tenants'])}\n"
    )


@user_app.command("list")
def list_command(
    output: OutputOption = "table",
    server: ServerOption = None,
    data: DataOption = None,
    token: TokenOption = None,
) -> None:
    """List users without their passwords, which nobody has.

    Example: millstream user list --data ./data
    """
    with directory_of(server, data, token) as directory:
        users = directory.users()
    print_list(
        users,
        (
            *fields("name", "role"),
            ("state", lambda user: "disabled" if user["disabled"] else "active"),
            ("may", lambda user: " ".join(user["verbs"])),
            *fields("tenants"),
            ("created", lambda user: day(user["created_ms"])),
            ("password of", lambda user: day(user["changed_ms"])),
        ),
        output,
    )


@user_app.command("set-password")
def set_password_command(
    name: NameArgument,
    own: Annotated[
        bool,
        typer.Option(
            "--own",
            help="Change your own on a server, by the old one in place of a key. On standard input "
            "the old one is the first line, the new one the second.",
        ),
    ] = False,
    server: ServerOption = None,
    data: DataOption = None,
    token: TokenOption = None,
) -> None:
    """Give a user a new password, which ends their sessions.

    Example: millstream user set-password ann --data ./data
    """
    if own:
        if server is None or data is not None:
            raise typer.BadParameter("--own needs --server URL")
        _set_own_password(server, name)
    else:
        with directory_of(server, data, token) as directory:
            password = _new_password(f"New password for {name}")
            directory.change_user(name, {"password": password})
    sys.stderr.write(f"{name} has a new password, and no session by the one before\n")


@user_app.command("disable")
def disable_command(
    name: NameArgument,
    server: ServerOption = None,
    data: DataOption = None,
    token: TokenOption = None,
) -> None:
    """Shut a user out, which ends their sessions, without forgetting them.

    Example: millstream user disable ann --data ./data
    """
    with directory_of(server, data, token) as directory:
        directory.change_user(name, {"disabled": True})
    sys.stderr.write(f"{name} is shut out\n")


@user_app.command("enable")
def enable_command(
    name: NameArgument,
    server: ServerOption = None,
    data: DataOption = None,
    token: TokenOption = None,
) -> None:
    """Let a user in again.

    Example: millstream user enable ann --data ./data
    """
    with directory_of(server, data, token) as directory:
        directory.change_user(name, {"disabled": False})
    sys.stderr.write(f"{name} may sign in\n")


@user_app.command("delete")
def delete_command(
    name: NameArgument,
    server: ServerOption = None,
    data: DataOption = None,
    token: TokenOption = None,
) -> None:
    """Remove a user, which ends their sessions.

    Example: millstream user delete ann --data ./data
    """
    with directory_of(server, data, token) as directory:
        directory.delete_user(name)
    sys.stderr.write(f"removed user {name}\n")


def _set_own_password(server: str, name: str) -> None:
    old = _password(f"Password of {name}")
    new = _new_password(f"New password for {name}")
    form = {"grant_type": "password", "username": name, "password": old}
    with closing(Remote(server)) as stranger:
        tokens = stranger.json("POST", "/v1/auth/token", form)
    with closing(Remote(server, tokens["access_token"])) as signed_in:
        try:
            change = {"old_password": old, "new_password": new}
            signed_in.json("POST", "/v1/auth/password", change)
        finally:
            signed_in.json("POST", "/v1/auth/logout", {"refresh_token": tokens["refresh_token"]})


def _new_password(prompt: str) -> str:
    """Asked for twice on a terminal, where nobody sees what is typed."""
    password = _password(prompt)
    if sys.stdin.isatty() and _password("The same again") != password:
        raise InvalidArgumentError("the two passwords differ")
    return password


def _password(prompt: str) -> str:
    if sys.stdin.isatty():
        return str(typer.prompt(prompt, hide_input=True, err=True))
    line = sys.stdin.readline(_PASSWORD_CHARACTERS_MAX + 2)
    password = line.removesuffix("\n").removesuffix("\r")
    if not password:
        raise typer.BadParameter("a password is expected on standard input")
    return password

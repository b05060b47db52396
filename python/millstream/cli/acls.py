"""``millstream acl``: access lists."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from millstream.cli.directory import directory_of
from millstream.cli.listing import fields, print_list
from millstream.cli.options import DataOption, OutputOption, ServerOption, TokenOption

acl_app = typer.Typer(
    no_args_is_help=True,
    help="Access lists: which metrics, topics and tables somebody may read or write.",
)


@acl_app.command("create")
def create_command(
    subject: Annotated[str, typer.Option(help="key:ID, user:ID, role:ROLE, or '*' for everybody.")],
    pattern: Annotated[
        str,
        typer.Option(
            help="A series selector for metrics; a name with '*' for any text for topics and tables."
        ),
    ],
    effect: Annotated[Literal["allow", "deny"], typer.Option(help="A deny wins over every allow.")],
    resource: Annotated[
        Literal["metric", "topic", "table"], typer.Option(help="What the line is about.")
    ] = "metric",
    tenant: Annotated[str, typer.Option(help="Whose data it is about; '*' is all.")] = "default",
    verb: Annotated[
        list[str] | None,
        typer.Option(help="read or write; may be repeated.", show_default="both"),
    ] = None,
    server: ServerOption = None,
    data: DataOption = None,
    token: TokenOption = None,
) -> None:
    """Add a line and print its id.

    Example: millstream acl create --subject key:4f0c2k9x1v7q --effect deny --pattern '{env="prod"}' --data ./data
    """
    for one in verb or []:
        if one not in ("read", "write"):
            raise typer.BadParameter(f"{one} is neither read nor write")
    with directory_of(server, data, token) as directory:
        made = directory.create_acl(
            {
                "subject": subject,
                "tenant": tenant,
                "resource": resource,
                "pattern": pattern,
                "effect": effect,
                "verbs": verb or ["read", "write"],
            }
        )
    sys.stdout.write(f"{made['id']}\n")


@acl_app.command("list")
def list_command(
    output: OutputOption = "table",
    server: ServerOption = None,
    data: DataOption = None,
    token: TokenOption = None,
) -> None:
    """List the lines.

    Example: millstream acl list --data ./data
    """
    with directory_of(server, data, token) as directory:
        acls = directory.acls()
    columns = fields("id", "subject", "effect", "verbs", "resource", "pattern", "tenant")
    print_list(acls, columns, output)


@acl_app.command("delete")
def delete_command(
    acl_id: Annotated[str, typer.Argument(metavar="ID", help="As `millstream acl list` shows it.")],
    server: ServerOption = None,
    data: DataOption = None,
    token: TokenOption = None,
) -> None:
    """Remove a line.

    Example: millstream acl delete 4f0c2b9a1d7e --data ./data
    """
    with directory_of(server, data, token) as directory:
        gone = directory.delete_acl(acl_id)
    sys.stderr.write(f"removed {gone['effect']} of {gone['pattern']} for {gone['subject']}\n")

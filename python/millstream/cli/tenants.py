"""``millstream tenant``: separate spaces of data."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from millstream.cli.directory import directory_of
from millstream.cli.listing import fields, print_list
from millstream.cli.options import DataOption, OutputOption, ServerOption, TokenOption

tenant_app = typer.Typer(no_args_is_help=True, help="Tenants: no query sees another's data.")


@tenant_app.command("create")
def create_command(
    name: Annotated[str, typer.Argument(help="Letters, digits and _.- make a name.")],
    server: ServerOption = None,
    data: DataOption = None,
    token: TokenOption = None,
) -> None:
    """Make a tenant.

    Example: millstream tenant create shop --data ./data
    """
    with directory_of(server, data, token) as directory:
        made = directory.create_tenant(name)
    sys.stderr.write(f"made tenant {made['name']}\n")


@tenant_app.command("list")
def list_command(
    output: OutputOption = "table",
    server: ServerOption = None,
    data: DataOption = None,
    token: TokenOption = None,
) -> None:
    """List tenants.

    Example: millstream tenant list --data ./data
    """
    with directory_of(server, data, token) as directory:
        tenants = directory.tenants()
    print_list(tenants, fields("name", "id"), output)

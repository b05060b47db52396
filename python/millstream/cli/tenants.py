"""``millstream tenant``: separate spaces of data."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from millstream.cli.directory import directory_of
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
    if output == "json":
        sys.stdout.write(json.dumps(tenants, indent=2) + "\n")
        return
    table = Table("name", "id")
    for one in tenants:
        table.add_row(one["name"], str(one["id"]))
    Console(markup=False).print(table)

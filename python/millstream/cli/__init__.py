"""The command ``millstream``. Exit codes: 0 ok, 1 the work failed, 2 wrong usage."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from millstream import __version__
from millstream.cli.acls import acl_app
from millstream.cli.certs import certs_app
from millstream.cli.exporting import export_command
from millstream.cli.importing import import_command
from millstream.cli.keys import key_app
from millstream.cli.querying import query_command
from millstream.cli.serving import serve_command
from millstream.cli.tenants import tenant_app
from millstream.cli.testing import test_app
from millstream.cli.topics import topic_app
from millstream.cli.users import user_app
from millstream.errors import MillstreamError

__all__ = ["app", "main"]

app = typer.Typer(
    name="millstream",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"millstream {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Metrics, events and state on one log: serve them, ask them, load them."""


app.command("serve")(serve_command)
app.command("query")(query_command)
app.command("import")(import_command)
app.command("export")(export_command)
app.add_typer(key_app, name="key")
app.add_typer(user_app, name="user")
app.add_typer(tenant_app, name="tenant")
app.add_typer(acl_app, name="acl")
app.add_typer(topic_app, name="topic")
app.add_typer(certs_app, name="certs")
app.add_typer(test_app, name="test")


def main() -> None:
    """Run the command line of this process."""
    try:
        app(prog_name="millstream")
    except MillstreamError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    except BrokenPipeError:
        # The reader went away, for example `| head`. Keep the interpreter from flushing into the
        # closed pipe once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)

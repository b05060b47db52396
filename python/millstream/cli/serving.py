"""``millstream serve``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from millstream.errors import FailedPreconditionError, InvalidArgumentError


def serve_command(
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on; loopback only, until there are credentials.",
            show_default="127.0.0.1",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on; 0 picks a free one.", show_default="8080"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the embedded engine.", show_default="data")
    ] = None,
    nodes: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Stand in front of this node instead of an embedded engine."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with settings; docs/operations.md lists them.")
    ] = None,
    sample_host: Annotated[
        bool | None,
        typer.Option(
            "--sample-host", help="Sample this machine's CPU, memory, disk and network too."
        ),
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the effective settings and exit.")
    ] = False,
) -> None:
    """Serve the HTTP API and the web page in front of an embedded engine.

    Prints one line with the URL when ready. SIGTERM and Ctrl-C stop it in good order.

    Example: millstream serve --data ./data --port 9090 --sample-host
    """
    try:
        from millstream_gateway.server import check_exposure, serve
        from millstream_gateway.settings import dump_settings, load_settings
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f'error: {error.name} is not installed; `pip install "millstream[gateway]"` does it\n'
        )
        raise typer.Exit(1) from None
    given: dict[str, dict[str, Any]] = {
        "server": {"host": host, "port": port},
        "storage": {"path": None if data is None else str(data)},
        "nodes": {"addresses": None if nodes is None else nodes.split(",")},
        "sample": {"host": sample_host},
    }
    flags = {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in given.items()
    }
    try:
        settings = load_settings(config, flags)
    except InvalidArgumentError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(2) from None
    if print_config:
        sys.stdout.write(dump_settings(settings))
        return
    try:
        check_exposure(settings)
    except FailedPreconditionError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(2) from None
    if not serve(settings):
        raise typer.Exit(1)

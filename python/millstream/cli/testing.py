"""``millstream test promql``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

test_app = typer.Typer(help="Run test scripts.", no_args_is_help=True, rich_markup_mode=None)


@test_app.callback()
def _group() -> None:
    """Run test scripts against the engine."""


@test_app.command("promql")
def promql_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Prometheus test scripts.")],
    enable_feature: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Switch on a feature flag; may be repeated."),
    ] = None,
) -> None:
    """Run Prometheus test scripts through the engine's real storage.

    Prints each failure, then "N passed, N failed", counting evals.

    Example: millstream test promql tests/golden/promql/*.test
    """
    scripts = [(file, _read(file)) for file in files]
    from millstream._core import run_promql_test

    passed = failed = 0
    for file, text in scripts:
        result = run_promql_test(str(file), text, enable_feature or [])
        passed += result.passed
        failed += result.failed
        for failure in result.failures:
            message = failure.message.replace("\n", "\n  ")
            sys.stdout.write(f"{file}:{failure.line}: {failure.expression}\n  {message}\n")
        if result.error and not result.failures:
            sys.stdout.write(f"{file}: {result.error}\n")
            failed += 1
    sys.stdout.write(f"{passed} passed, {failed} failed\n")
    if failed:
        raise typer.Exit(1)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"cannot read {file}: {error}") from None

"""How commands speak: tables that fit, and errors of one line."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer
from rich.console import Console

#: Where there is no terminal that wraps, ids and file names stay whole.
WIDTH_WITHOUT_TERMINAL = 180


def output() -> Console:
    """Standard output, for tables and progress."""
    return Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL)


def fail(message: str) -> NoReturn:
    """End the command with one line that says why, and the exit code 1."""
    typer.echo(f"rendermill: {message}", err=True)
    raise typer.Exit(1)

"""How commands speak: results on standard output, notes and errors of one line beside it."""

from __future__ import annotations

import json
import re
from typing import NoReturn

import typer
from rich.console import Console

from client.exit_codes import ExitCode

#: Where there is no terminal that wraps, ids and file names stay whole.
WIDTH_WITHOUT_TERMINAL = 180
#: Prompts and names were written by strangers: none may move the cursor, set colours or end a line. Nor can half a pair
#: of surrogates be written at all.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def output(*, least: int = 0) -> Console:
    """Standard output, at least that many characters wide."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_WITHOUT_TERMINAL
    console.width = max(console.width, least)
    return console


def tell(message: str) -> None:
    """A note for a person. It goes to standard error: what a program reads stays clean of it."""
    typer.echo(message, err=True)


def fail(message: str, code: ExitCode = ExitCode.FAILED) -> NoReturn:
    """End the command with one line that says why, and the exit code."""
    tell(f"rendermill: {plain(message)}")
    raise typer.Exit(code)


def plain(value: object) -> str:
    """The text of a value, in one line that does nothing to a terminal."""
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else str(value)
    return _CONTROL.sub(" ", text)

"""How tests submit files, and what they find then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from farm.cli import app as rendermill

SMALL = ["--model", "sdxl-lightning", "--set", "width=256", "--set", "height=256"]


def run(*arguments: str, input: str | None = None) -> Result:  # noqa: A002 - as CliRunner calls it
    return CliRunner().invoke(rendermill, list(arguments), input=input)


def submit(*arguments: str, input: str | None = None) -> Result:  # noqa: A002
    return run("submit", *arguments, *SMALL, input=input)


def rows(file: str) -> list[dict[str, Any]]:
    return [json.loads(row) for row in Path(file).read_text().splitlines()]


def pictures(folder: str) -> list[str]:
    return sorted(file.name for file in Path(folder).iterdir() if file.suffix in (".jpeg", ".png", ".webp"))

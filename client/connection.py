"""Which farm a command speaks to, and with which key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from client.client import Client
from client.errors import ClientError
from client.terminal import fail

DEFAULT_URL = "http://127.0.0.1:8080"
#: Where `rendermill up`, started in this folder, keeps its state.
DEFAULT_DATA_DIR = Path(".rendermill")
#: A farm is restarted within this time, in seconds, unless something is wrong with it.
PATIENCE_S = 60.0

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="RENDERMILL_URL", help=f"Address of the farm; else the one in --data-dir, else {DEFAULT_URL}."
    ),
]
KeyOption = Annotated[
    str | None,
    typer.Option("--api-key", envvar="RENDERMILL_API_KEY", help="API key; else the one in --data-dir."),
]
DataDirOption = Annotated[
    Path, typer.Option("--data-dir", help="Data directory of a farm on this machine, which 'up' was started with.")
]


@contextmanager
def connected(url: str | None, api_key: str | None, data_dir: Path) -> Iterator[Client]:
    """A client; what goes wrong with it becomes one line and the exit code 1."""
    try:
        with Client(url or _url_of(data_dir), api_key or _key_of(data_dir), patience_s=PATIENCE_S) as client:
            yield client
    except ClientError as error:
        fail(str(error))
    except KeyboardInterrupt:
        typer.echo("rendermill: stopped; what was submitted goes on", err=True)
        raise typer.Exit(130) from None


def _url_of(data_dir: Path) -> str:
    file = data_dir / "farm.json"
    try:
        url: str = json.loads(file.read_text(encoding="utf-8"))["url"] if file.exists() else DEFAULT_URL
    except (OSError, ValueError, KeyError) as error:
        raise ClientError(f"{file} cannot be read: {error}. Give --url.") from error
    return url


def _key_of(data_dir: Path) -> str:
    file = data_dir / "api-key"
    try:
        return file.read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise ClientError(
            f"An API key is needed, and there is none at {file}. For a farm on this machine give the --data-dir that "
            "'rendermill up' was started with; for another farm give --url and --api-key, or set RENDERMILL_URL and "
            "RENDERMILL_API_KEY."
        ) from error
    except OSError as error:
        raise ClientError(f"{file} cannot be read: {error.strerror}. Give --api-key.") from error

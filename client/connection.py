"""Which farm a command speaks to, and with which key."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from client.advice import advised
from client.client import Client
from client.errors import ClientError
from client.exit_codes import ExitCode, exit_code_of
from client.scripts import PATIENCE_S as PATIENCE_S
from client.terminal import fail
from client.whereabouts import DEFAULT_DATA_DIR as DEFAULT_DATA_DIR
from client.whereabouts import DEFAULT_URL, KEY_VARIABLE, URL_VARIABLE, key_of, url_of

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", envvar=URL_VARIABLE, help=f"Address of the farm; else the one in --data-dir, else {DEFAULT_URL}."
    ),
]
KeyOption = Annotated[
    str | None,
    typer.Option("--api-key", envvar=KEY_VARIABLE, help="API key; else the one in --data-dir."),
]
DataDirOption = Annotated[
    Path, typer.Option("--data-dir", help="Data directory of a farm on this machine, which 'up' was started with.")
]


@contextmanager
def connected(
    url: UrlOption = None, api_key: KeyOption = None, data_dir: DataDirOption = DEFAULT_DATA_DIR
) -> Iterator[Client]:
    """A client; what goes wrong with it becomes one line and an exit code."""
    with reported(), Client(*place_of(url, api_key, data_dir), patience_s=PATIENCE_S) as client:
        yield client


def place_of(url: str | None, api_key: str | None, data_dir: Path) -> tuple[str, str]:
    """The farm's address and the key. Raises ClientError."""
    address = url or url_of(data_dir)
    if not address.startswith(("http://", "https://")):
        fail(f"{address} is no address of a farm; write http://… or https://….", ExitCode.USAGE)
    return address, api_key or key_of(data_dir)


@contextmanager
def reported() -> Iterator[None]:
    """What goes wrong in this block becomes one line and an exit code."""
    try:
        yield
    except ClientError as error:
        fail(advised(error), exit_code_of(error))
    except KeyboardInterrupt:
        typer.echo("rendermill: stopped; what was submitted goes on", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def with_farm(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a farm for its first argument, and the options of `connected` beside its own."""

    def with_options(*, url: str | None, api_key: str | None, data_dir: Path, **own: Any) -> None:
        with connected(url, api_key, data_dir) as farm:
            command(farm, **own)

    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in (*own, *inspect.signature(connected, eval_str=True).parameters.values())
    ]
    # Typer reads both: order and defaults from the signature, types from the annotations.
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    with_options.__name__, with_options.__doc__ = command.__name__, command.__doc__
    return with_options

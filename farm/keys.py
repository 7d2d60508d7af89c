"""`rendermill keys`: the operator's commands for API keys. They talk to Redis, not to the API."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from redis.exceptions import RedisError
from rich.table import Table

from client.terminal import fail, output
from farm.datadir import DataDir
from farm.errors import FarmError
from shared.accounts import Accounts
from shared.redis_client import connect
from shared.settings import PREFIX

REDIS_URL = f"{PREFIX}REDIS_URL"

app = typer.Typer(help="Make, list and revoke API keys (on the farm's side).", no_args_is_help=True)

DataDirOption = Annotated[
    Path | None,
    typer.Option(help=f"Data directory of a running embedded farm; without it {REDIS_URL}, else .rendermill."),
]


@app.command()
def create(
    account: Annotated[str, typer.Argument(help="The account; it is made when it does not exist.")],
    data_dir: DataDirOption = None,
) -> None:
    """Make a key for an account and print it. It cannot be shown again."""
    with _accounts(data_dir) as accounts:
        typer.echo(accounts.create_key(account))


@app.command("list")
def list_(data_dir: DataDirOption = None) -> None:
    """List the keys: their first characters, never the whole."""
    with _accounts(data_dir) as accounts:
        table = Table("key", "account", "made")
        for info in accounts.keys():  # noqa: SIM118 - a list of keys, not of a dict's
            made = datetime.fromtimestamp(info.created_at).astimezone()
            table.add_row(f"{info.hint}…", info.account, made.isoformat(sep=" ", timespec="seconds"))
        output().print(table)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key, or its first characters as 'keys list' shows them.")],
    data_dir: DataDirOption = None,
) -> None:
    """Make a key useless, at once."""
    with _accounts(data_dir) as accounts:
        info = accounts.revoke_key(key.rstrip("…"))
        if info is None:
            fail(f"No key, or more than one, begins with {key!r}; see 'rendermill keys list'.")
        typer.echo(f"revoked {info.hint}… of {info.account}")


@contextmanager
def _accounts(data_dir: Path | None) -> Iterator[Accounts]:
    try:
        with connect(_redis_url(data_dir)) as redis:
            yield Accounts(redis)
    except RedisError as error:
        fail(f"Redis cannot be reached: {error}")
    except (FarmError, ValueError) as error:
        fail(str(error))


def _redis_url(data_dir: Path | None) -> str:
    if data_dir is None and REDIS_URL in os.environ:
        return os.environ[REDIS_URL]
    root = data_dir or Path(".rendermill")
    running = DataDir(root).running()
    if running is None:
        raise FarmError(
            f"No farm runs in {root}. Start one with 'rendermill up', give its --data-dir, or set {REDIS_URL}."
        )
    return running.redis_url

"""`rendermill keys`: the operator's commands for API keys. They talk to Redis, not to the API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from rich.table import Table

from client.terminal import fail, output
from farm.connection import DataDirOption, farm_redis
from shared.accounts import Accounts

app = typer.Typer(help="Make, list and revoke API keys (on the farm's side).", no_args_is_help=True)


@app.command()
def create(
    account: Annotated[str, typer.Argument(help="The account; it is made when it does not exist.")],
    data_dir: DataDirOption = None,
) -> None:
    """Make a key for an account and print it. It cannot be shown again."""
    with farm_redis(data_dir) as redis:
        typer.echo(Accounts(redis).create_key(account))


@app.command("list")
def list_(data_dir: DataDirOption = None) -> None:
    """List the keys: their first characters, never the whole."""
    with farm_redis(data_dir) as redis:
        table = Table("key", "account", "made")
        for info in Accounts(redis).keys():  # noqa: SIM118 - a list of keys, not of a dict's
            made = datetime.fromtimestamp(info.created_at).astimezone()
            table.add_row(f"{info.hint}…", info.account, made.isoformat(sep=" ", timespec="seconds"))
        output().print(table)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key, or its first characters as 'keys list' shows them.")],
    data_dir: DataDirOption = None,
) -> None:
    """Make a key useless, at once."""
    with farm_redis(data_dir) as redis:
        info = Accounts(redis).revoke_key(key.rstrip("…"))
        if info is None:
            fail(f"No key, or more than one, begins with {key!r}; see 'rendermill keys list'.")
        typer.echo(f"revoked {info.hint}… of {info.account}")

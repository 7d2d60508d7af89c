"""`rendermill keys`: the operator's commands for API keys. They talk to Redis, not to the API."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from client.commands.cells import Moment
from client.commands.printing import JsonOption, print_json, print_table
from client.exit_codes import ExitCode
from client.terminal import fail
from farm.connection import DataDirOption, account_names, farm_redis
from shared.accounts import Accounts, KeyInfo
from shared.images import iso_time

app = typer.Typer()


@app.command()
def create(
    account: Annotated[
        str, typer.Argument(help="The account; it is made when it does not exist.", autocompletion=account_names)
    ],
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key for an account and print it. It cannot be shown again.

    Example: `rendermill keys create alice`
    """
    with farm_redis(data_dir) as redis:
        key = Accounts(redis).create_key(account)
    if as_json:
        print_json([{"key": key, "account": account}])
    else:
        typer.echo(key)


@app.command("list")
def list_(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """List the keys: their first characters, never the whole.

    Example: `rendermill keys list`
    """
    with farm_redis(data_dir) as redis:
        found = Accounts(redis).keys()
    if as_json:
        print_json(map(_shown, found))
        return
    rows = ((info.hint, info.account, Moment(info.created_at)) for info in found)
    print_table(("key", "account", "made"), rows, none="No keys. 'rendermill keys create ACCOUNT' makes one.")


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key, or its first characters as 'keys list' shows them.")],
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key useless, within a second.

    Example: `rendermill keys revoke rm_4kTz0`
    """
    with farm_redis(data_dir) as redis:
        info = Accounts(redis).revoke_key(key)
    if info is None:
        fail("No key, or more than one, begins with that; see 'rendermill keys list'.", ExitCode.NOT_FOUND)
    if as_json:
        print_json([_shown(info)])
    else:
        typer.echo(f"revoked {info.hint}… of {info.account}")


def _shown(info: KeyInfo) -> dict[str, Any]:
    return {"key": info.hint, "account": info.account, "created_at": iso_time(info.created_at)}

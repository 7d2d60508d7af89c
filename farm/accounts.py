"""`rendermill accounts`: the operator's commands for what accounts may do, and for their credits."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from redis import Redis

from client.commands.account import print_account, rate
from client.commands.cells import Number, Share, credits_
from client.commands.printing import JsonOption, print_json, print_table
from client.exit_codes import ExitCode
from client.terminal import fail
from farm.connection import DataDirOption, account_names, farm_redis
from shared.account_view import account_view
from shared.accounts import MAX_WEIGHT, MIN_WEIGHT, Accounts
from shared.credits import micros
from shared.limits import AccountLimits, Rate
from shared.usage import DAYS_KEPT

app = typer.Typer()

AccountArgument = Annotated[
    str, typer.Argument(help="The account; 'keys create' makes one.", autocompletion=account_names)
]

#: What takes a limit away.
_NONE = "none"


@app.command("list")
def list_(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """List the accounts with their limits, what is taken of them, and their credits.

    Example: `rendermill accounts list`
    """
    with farm_redis(data_dir) as redis:
        found = [_view(redis, name) for name in Accounts(redis).names()]
    if as_json:
        print_json(found)
        return
    print_table(
        ("account", "weight", "rate", "queued", "running", "balance", "reserved", "charged"),
        (
            (
                account["id"],
                Number(f"{account['limits']['weight']:g}"),
                rate(account["limits"]["rate"]) if account["limits"]["rate"] else "-",
                Share(account["used"]["queued"], account["limits"]["max_queued"]),
                Share(account["used"]["running"], account["limits"]["max_running"]),
                Number(credits_(account["balance"]) or "-"),
                Number(credits_(account["reserved"])),
                Number(credits_(account["charged"])),
            )
            for account in found
        ),
        none="No accounts. 'rendermill keys create ACCOUNT' makes one.",
    )


@app.command()
def show(
    account: AccountArgument,
    days: Annotated[int, typer.Option(min=1, max=DAYS_KEPT, help="How many days of usage.")] = 7,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one account, and its usage by day and model.

    Example: `rendermill accounts show alice --days 30`
    """
    with farm_redis(data_dir) as redis:
        _check(redis, account)
        _print(redis, account, days, as_json)


@app.command("set")
def set_(
    account: AccountArgument,
    weight: Annotated[
        float | None, typer.Option(help=f"Its share of a busy farm, {MIN_WEIGHT:g} to {MAX_WEIGHT:g}; 1 is normal.")
    ] = None,
    requests: Annotated[
        str | None,
        typer.Option("--rate", metavar="N/PERIOD", help="Requests that make jobs, such as 60/min, or 'none'."),
    ] = None,
    max_queued: Annotated[str | None, typer.Option(metavar="N", help="Jobs that may wait, or 'none'.")] = None,
    max_running: Annotated[str | None, typer.Option(metavar="N", help="Jobs that run at once, or 'none'.")] = None,
    balance: Annotated[
        str | None, typer.Option(metavar="CREDITS", help="What it can spend from now on; 'none' if it need not pay.")
    ] = None,
    top_up: Annotated[str | None, typer.Option(metavar="CREDITS", help="Add to its balance.")] = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set limits and credits of an account. What is not named stays as it is.

    Example: `rendermill accounts set alice --rate 60/min --max-queued 1000 --top-up 50`
    """
    with farm_redis(data_dir) as redis:
        _check(redis, account)
        accounts, limits = Accounts(redis), AccountLimits(redis)
        # All is read before anything is set.
        new_rate = None if requests in (None, _NONE) else Rate.parse(requests or "")
        new_max_queued, new_max_running = _jobs(max_queued), _jobs(max_running)
        new_balance = None if balance in (None, _NONE) else micros(balance or "")
        added = None if top_up is None else micros(top_up)
        if weight is not None:
            accounts.set_weight(account, weight)
        if requests is not None:
            limits.set_rate(account, new_rate)
        if max_queued is not None:
            limits.set_max_queued(account, new_max_queued)
        if max_running is not None:
            limits.set_max_running(account, new_max_running)
        if balance is not None:
            limits.set_balance(account, new_balance)
        if added is not None:
            limits.top_up(account, added)
        _print(redis, account, 1, as_json)


def _jobs(text: str | None) -> int | None:
    if text in (None, _NONE):
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError(f"{text!r} is no number of jobs; write one, or 'none'")
    return int(text)


def _check(redis: Redis, account: str) -> None:
    if account not in Accounts(redis).names():
        fail(f"There is no account {account!r}; see 'rendermill accounts list'.", ExitCode.NOT_FOUND)


def _print(redis: Redis, account: str, days: int, as_json: bool) -> None:
    found = _view(redis, account, days)
    if as_json:
        print_json([found])
    else:
        print_account(found)


def _view(redis: Redis, account: str, days: int = 1) -> dict[str, Any]:
    return account_view(redis, AccountLimits(redis), account, days=days)

"""`rendermill accounts`: the operator's commands for what accounts may do, and for their credits."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from client.terminal import output
from farm.connection import DataDirOption, farm_redis
from shared.accounts import MAX_WEIGHT, MIN_WEIGHT, Accounts
from shared.credits import credits_of, micros
from shared.limits import AccountLimits, AccountState, Rate
from shared.usage import usage_of

app = typer.Typer(
    help="See and set what accounts may do, and their credits (on the farm's side).", no_args_is_help=True
)

AccountArgument = Annotated[str, typer.Argument(help="The account; 'keys create' makes one.")]

#: What takes a limit away.
_NONE = "none"
_USAGE_DAYS = 7


@app.command("list")
def list_(data_dir: DataDirOption = None) -> None:
    """List the accounts with their limits, what is taken of them, and their credits."""
    with farm_redis(data_dir) as redis:
        limits = AccountLimits(redis)
        table = Table("account", "weight", "rate", "queued", "running", "balance", "reserved", "charged")
        for name in Accounts(redis).names():
            table.add_row(name, *_row(limits.account(name)))
        output().print(table)


@app.command()
def show(account: AccountArgument, data_dir: DataDirOption = None) -> None:
    """Show one account, and its usage of the last days."""
    with farm_redis(data_dir) as redis:
        if account not in Accounts(redis).names():
            raise ValueError(f"there is no account {account!r}; see 'rendermill accounts list'")
        table = Table("weight", "rate", "queued", "running", "balance", "reserved", "charged", title=account)
        table.add_row(*_row(AccountLimits(redis).account(account)))
        usage = Table("day (UTC)", "model", "jobs ended", "images", "credits")
        for row in usage_of(redis, account, days=_USAGE_DAYS):
            ended = ", ".join(f"{count} {status}" for status, count in row.jobs.items())
            usage.add_row(row.day.isoformat(), row.model, ended, str(row.images), _credits(row.credits))
        output().print(table, usage)


@app.command("set")
def set_(
    account: AccountArgument,
    weight: Annotated[
        float | None, typer.Option(help=f"Its share of a busy farm, {MIN_WEIGHT:g} to {MAX_WEIGHT:g}; 1 is normal.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="N/PERIOD", help="Requests that make jobs, such as 60/min, or 'none'.")
    ] = None,
    max_queued: Annotated[str | None, typer.Option(metavar="N", help="Jobs that may wait, or 'none'.")] = None,
    max_running: Annotated[str | None, typer.Option(metavar="N", help="Jobs that run at once, or 'none'.")] = None,
    balance: Annotated[
        str | None, typer.Option(metavar="CREDITS", help="What it can spend from now on; 'none' if it need not pay.")
    ] = None,
    top_up: Annotated[str | None, typer.Option(metavar="CREDITS", help="Add to its balance.")] = None,
    data_dir: DataDirOption = None,
) -> None:
    """Set limits and credits of an account. What is not named stays as it is."""
    with farm_redis(data_dir) as redis:
        accounts, limits = Accounts(redis), AccountLimits(redis)
        # All is read before anything is set.
        new_rate = None if rate in (None, _NONE) else Rate.parse(rate or "")
        new_max_queued, new_max_running = _jobs(max_queued), _jobs(max_running)
        new_balance = None if balance in (None, _NONE) else micros(balance or "")
        added = None if top_up is None else micros(top_up)
        if weight is not None:
            accounts.set_weight(account, weight)
        if rate is not None:
            limits.set_rate(account, new_rate)
        if max_queued is not None:
            limits.set_max_queued(account, new_max_queued)
        if max_running is not None:
            limits.set_max_running(account, new_max_running)
        if balance is not None:
            limits.set_balance(account, new_balance)
        if added is not None:
            limits.top_up(account, added)
    show(account, data_dir)


def _jobs(text: str | None) -> int | None:
    if text in (None, _NONE):
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError(f"{text!r} is no number of jobs; write one, or 'none'")
    return int(text)


def _row(state: AccountState) -> list[str]:
    limits, used, balance = state.limits, state.used, state.balance
    rate = "-" if limits.rate is None else f"{limits.rate} ({used.requests_left} left)"
    return [
        f"{limits.weight:g}",
        rate,
        _of(used.queued, limits.max_queued),
        _of(used.running, limits.max_running),
        "-" if balance.available is None else _credits(balance.available),
        _credits(balance.reserved),
        _credits(balance.charged),
    ]


def _of(count: int, most: int | None) -> str:
    return str(count) if most is None else f"{count} of {most}"


def _credits(amount: int) -> str:
    return f"{credits_of(amount):,.6f}".rstrip("0").rstrip(".")

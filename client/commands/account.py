"""`rendermill account`: what the account may do, what it has, and what it used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from client.client import Client
from client.commands.cells import Number, Share, credits_
from client.commands.panels import FARM
from client.commands.printing import JsonOption, print_facts, print_json, print_table
from client.connection import with_farm

app = typer.Typer()

#: As long as the farm keeps it.
MAX_DAYS = 92
_ENDS = ("succeeded", "failed", "canceled", "expired")
_UNITS_S = {"d": 86400, "h": 3600, "min": 60, "s": 1}


@app.command(rich_help_panel=FARM)
@with_farm
def account(
    farm: Client,
    days: Annotated[int, typer.Option(min=1, max=MAX_DAYS, help="How many days of usage.")] = 7,
    as_json: JsonOption = False,
) -> None:
    """Show your account: balance, limits, and usage by day and model.

    Example: `rendermill account --days 30`
    """
    found = farm.account(days=days).raw
    if as_json:
        print_json([found])
    else:
        print_account(found)


def print_account(account: Mapping[str, Any]) -> None:
    """An Account object, for a person."""
    limits, used = account["limits"], account["used"]
    left = used["requests_left"]
    print_facts(
        [
            ("account", account["id"]),
            ("balance", "need not pay" if account["balance"] is None else credits_(account["balance"])),
            ("reserved", credits_(account["reserved"])),
            ("charged", credits_(account["charged"])),
            ("weight", f"{limits['weight']:g}"),
            ("requests", "no limit" if limits["rate"] is None else f"{rate(limits['rate'])}, {left} left"),
            ("queued", Share(used["queued"], limits["max_queued"])),
            ("running", Share(used["running"], limits["max_running"])),
        ]
    )
    if account["usage"]:
        typer.echo()
    print_table(
        ("day (UTC)", "model", *_ENDS, "images", "credits"),
        (
            (day["day"], day["model"], *(day[end] for end in _ENDS), day["images"], Number(credits_(day["credits"])))
            for day in account["usage"]
        ),
    )


def rate(limit: Mapping[str, int]) -> str:
    """A rate as `rendermill accounts set` takes it: 60/min."""
    period = limit["period_s"]
    name, length = next((name, length) for name, length in _UNITS_S.items() if period % length == 0)
    return f"{limit['requests']}/{'' if period == length else period // length}{name}"

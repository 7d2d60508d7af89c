"""The Account object, as clients and operators see it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from redis import Redis

from shared.credits import credits_of
from shared.jobs import JobStatus
from shared.limits import AccountLimits
from shared.usage import DayOfModel, usage_of


def account_view(redis: Redis, limits: AccountLimits, name: str, *, days: int) -> dict[str, Any]:
    """The account as it is now, with its usage of so many days."""
    known = limits.account(name)
    balance = known.balance
    return {
        "id": name,
        "object": "account",
        "balance": None if balance.available is None else credits_of(balance.available),
        "reserved": credits_of(balance.reserved),
        "charged": credits_of(balance.charged),
        "limits": asdict(known.limits),
        "used": asdict(known.used),
        "usage": [_day(row) for row in usage_of(redis, name, days=days)],
    }


def _day(row: DayOfModel) -> dict[str, Any]:
    ended = {status.value: row.jobs.get(status, 0) for status in JobStatus if status.is_terminal}
    return {
        "day": row.day.isoformat(),
        "model": row.model,
        **ended,
        "images": row.images,
        "credits": credits_of(row.credits),
    }

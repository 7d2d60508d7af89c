"""The account of the key that asks: its credits, its limits, and what it has used."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Response

from api.auth import account as current_account
from api.http import json_response
from api.schemas.account import AccountQuery, AccountSchema
from api.services import services
from api.spec import Blueprint
from shared.credits import credits_of
from shared.jobs import JobStatus
from shared.usage import DayOfModel, usage_of

account = Blueprint("account", __name__, url_prefix="/v1/account", description="Credits, limits and usage.")


@account.route("", methods=["GET"])
@account.query(AccountQuery)
@account.answers(200, "The account as it is now.", AccountSchema)
@account.refuses(401, 422)
@account.describes(summary="Look at the account")
def get_account(query: dict[str, Any]) -> Response:
    farm, name = services(), current_account()
    known = farm.limits.account(name)
    balance = known.balance
    return json_response(
        {
            "id": name,
            "object": "account",
            "balance": None if balance.available is None else credits_of(balance.available),
            "reserved": credits_of(balance.reserved),
            "charged": credits_of(balance.charged),
            "limits": asdict(known.limits),
            "used": asdict(known.used),
            "usage": [_day(row) for row in usage_of(farm.redis, name, days=query["days"])],
        }
    )


def _day(row: DayOfModel) -> dict[str, Any]:
    ended = {status.value: row.jobs.get(status, 0) for status in JobStatus if status.is_terminal}
    return {
        "day": row.day.isoformat(),
        "model": row.model,
        **ended,
        "images": row.images,
        "credits": credits_of(row.credits),
    }

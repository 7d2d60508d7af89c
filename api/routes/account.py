"""The account of the key that asks: its credits, its limits, and what it has used."""

from __future__ import annotations

from typing import Any

from flask import Response

from api.auth import account as current_account
from api.http import json_response
from api.schemas.account import AccountQuery, AccountSchema
from api.services import services
from api.spec import Blueprint
from shared.account_view import account_view

account = Blueprint("account", __name__, url_prefix="/v1/account", description="Credits, limits and usage.")


@account.route("", methods=["GET"])
@account.query(AccountQuery)
@account.answers(200, "The account as it is now.", AccountSchema)
@account.refuses(401, 422)
@account.describes(summary="Look at the account")
def get_account(query: dict[str, Any]) -> Response:
    farm = services()
    return json_response(account_view(farm.redis, farm.limits, current_account(), days=query["days"]))

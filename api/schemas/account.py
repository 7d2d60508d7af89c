"""How an account is shown."""

from __future__ import annotations

from marshmallow import Schema, fields

from api.schemas.fields import QueryInt
from intake.strict import Strict
from shared.usage import DAYS_KEPT

_CREDITS = "Credits; at most six decimal places."


class AccountQuery(Strict):
    days = QueryInt(min=1, max=DAYS_KEPT, load_default=30, metadata={"description": "How many days of usage."})


class RateSchema(Schema):
    """So many requests at once, and again as many over each period."""

    requests = fields.Integer(required=True)
    period_s = fields.Integer(required=True)


class LimitsSchema(Schema):
    """Null where there is no limit."""

    weight = fields.Float(required=True, metadata={"description": "Share of a busy farm; 1 is an account's normal."})
    rate = fields.Nested(RateSchema, required=True, allow_none=True)
    max_queued = fields.Integer(required=True, allow_none=True, metadata={"description": "Jobs that wait."})
    max_running = fields.Integer(required=True, allow_none=True, metadata={"description": "Jobs that run at once."})


class UsedSchema(Schema):
    """What is taken of the limits at this moment."""

    requests_left = fields.Integer(required=True, allow_none=True, metadata={"description": "Null without a rate."})
    queued = fields.Integer(required=True)
    running = fields.Integer(required=True)


class DayOfModelSchema(Schema):
    """Jobs that ended on one day, counted by how."""

    day = fields.String(required=True, metadata={"format": "date", "description": "UTC."})
    model = fields.String(required=True)
    succeeded = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    canceled = fields.Integer(required=True)
    expired = fields.Integer(required=True)
    images = fields.Integer(required=True)
    credits = fields.Float(required=True, metadata={"description": _CREDITS})


class AccountSchema(Schema):
    """The account of the key that asks."""

    id = fields.String(required=True)
    object = fields.String(required=True, metadata={"enum": ["account"]})
    balance = fields.Float(
        required=True, allow_none=True, metadata={"description": f"{_CREDITS} Null where it need not pay."}
    )
    reserved = fields.Float(required=True, metadata={"description": f"For jobs that are not finished. {_CREDITS}"})
    charged = fields.Float(required=True, metadata={"description": f"For pictures, ever. {_CREDITS}"})
    limits = fields.Nested(LimitsSchema, required=True)
    used = fields.Nested(UsedSchema, required=True)
    usage = fields.List(fields.Nested(DayOfModelSchema), required=True, metadata={"description": "Newest first."})

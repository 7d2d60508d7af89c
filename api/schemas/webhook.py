"""Webhook endpoints and deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, fields, validates_schema
from marshmallow.validate import Length

from api.schemas.fields import QueryInt
from intake.fields import Text, choice
from intake.job_body import EVENTS, check_webhook_url
from intake.strict import Strict


class EndpointBody(Strict):
    """A receiver that is told of all of the account's jobs."""

    EXAMPLE = {"url": "https://example.com/hook", "events": ["job.succeeded"]}  # noqa: RUF012 - read only

    url = Text(max=2048, required=True, metadata={"format": "uri"})
    events = fields.List(
        choice(*EVENTS), validate=Length(min=1), metadata={"description": "Every kind, if absent.", "minItems": 1}
    )

    @validates_schema(skip_on_field_errors=False)
    def check_url(self, data: Mapping[str, Any], **_: Any) -> None:
        if (url := data.get("url")) is not None:
            check_webhook_url(url, "url")


class EndpointSchema(Schema):
    id = fields.String(required=True)
    object = fields.String(required=True, metadata={"enum": ["webhook_endpoint"]})
    url = fields.String(required=True, metadata={"format": "uri"})
    events = fields.List(fields.String(metadata={"enum": list(EVENTS)}), required=True)
    created_at = fields.String(required=True, metadata={"format": "date-time"})
    disabled = fields.String(required=True, allow_none=True, metadata={"description": "Why it is not used any more."})
    secret = fields.String(metadata={"description": "Shown when it is made, and at `…/secret`."})


class EndpointPageSchema(Schema):
    object = fields.String(required=True, metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(EndpointSchema), required=True)


class SecretSchema(Schema):
    secret = fields.String(required=True, metadata={"description": "`whsec_` and base64, as in Standard Webhooks."})


class AttemptSchema(Schema):
    at = fields.String(metadata={"format": "date-time"})
    seconds = fields.Float()
    result = fields.String()
    http_status = fields.Integer(allow_none=True)
    detail = fields.String()


class DeliverySchema(Schema):
    id = fields.String(required=True, metadata={"description": "The `webhook-id` of every attempt."})
    object = fields.String(required=True, metadata={"enum": ["webhook_delivery"]})
    event = fields.String(required=True)
    job_id = fields.String(required=True, allow_none=True, metadata={"description": "Null for a batch."})
    batch_id = fields.String(required=True, allow_none=True, metadata={"description": "Null for a job."})
    endpoint_id = fields.String(required=True, allow_none=True, metadata={"description": "Null for the job's own URL."})
    status = fields.String(required=True, metadata={"enum": ["pending", "delivered", "failed"]})
    created_at = fields.String(required=True, metadata={"format": "date-time"})
    attempts = fields.List(fields.Nested(AttemptSchema), required=True)


class DeliveryPageSchema(Schema):
    object = fields.String(required=True, metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(DeliverySchema), required=True)
    has_more = fields.Boolean(required=True)
    after = fields.String(required=True, allow_none=True)


class DeliveriesQuery(Strict):
    limit = QueryInt(min=1, max=100, load_default=20)
    after = Text(max=200, metadata={"description": "The `after` of the page before."})

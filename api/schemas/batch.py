"""How batches are asked for and shown, as in the OpenAI API."""

from __future__ import annotations

import re
from typing import Any

from marshmallow import Schema, ValidationError, fields

from api.schemas.fields import QueryBool, QueryInt
from intake.batch_requests import ENDPOINTS
from intake.fields import Metadata, Text, choice
from shared.batches import BatchStatus
from shared.jobs import Priority

_WINDOW = re.compile(r"(\d{1,3})([hd])")
_UNIT_S = {"h": 3600.0, "d": 86400.0}
#: Well within the retention of the pictures that were finished first.
MAX_WINDOW_S = 14 * 86400.0


class Window(fields.Field[str]):
    """How long the batch may take: hours or days, such as `24h` or `7d`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(metadata={"type": "string", "pattern": f"^{_WINDOW.pattern}$"}, **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        if not isinstance(value, str) or not _WINDOW.fullmatch(value) or not 0 < window_s(value) <= MAX_WINDOW_S:
            raise ValidationError("must be hours or days up to 14d, such as '24h' or '7d'")
        return value


def window_s(window: str) -> float:
    """Seconds of a completion window."""
    match = _WINDOW.fullmatch(window)
    assert match is not None, "the schema has checked it"
    return int(match[1]) * _UNIT_S[match[2]]


class BatchBody(Schema):
    """A batch to be worked on."""

    EXAMPLE = {  # noqa: RUF012 - read only
        "input_file_id": "file_0123456789abcdefghijABCD",
        "endpoint": "/v1/images/generations",
        "completion_window": "24h",
    }

    input_file_id = Text(max=100, required=True)
    endpoint = choice(*ENDPOINTS, required=True)
    completion_window = Window(required=True)
    metadata = Metadata(allow_none=True)
    priority = choice(*Priority, allow_none=True, metadata={"description": "`low` if absent. Beyond the OpenAI API."})


class BatchesQuery(Schema):
    limit = QueryInt(min=1, max=100, load_default=20)
    after = Text(max=100)


class BatchEventsQuery(Schema):
    jobs = QueryBool(load_default=False, metadata={"description": "Tell of each job that has ended as well."})


class BatchErrorSchema(Schema):
    code = fields.String(required=True)
    message = fields.String(required=True)
    param = fields.String(required=True, allow_none=True)
    line = fields.Integer(required=True, allow_none=True)


class BatchErrorsSchema(Schema):
    object = fields.String(required=True, metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(BatchErrorSchema), required=True)


class RequestCountsSchema(Schema):
    total = fields.Integer(required=True)
    completed = fields.Integer(required=True)
    failed = fields.Integer(required=True)


def _moment() -> fields.Integer:
    return fields.Integer(required=True, allow_none=True, metadata={"description": "Unix seconds."})


class HeldUpSchema(Schema):
    """Why a batch has to wait."""

    code = fields.String(required=True)
    message = fields.String(required=True)


class BatchSchema(Schema):
    """A batch."""

    id = fields.String(required=True)
    object = fields.String(required=True, metadata={"enum": ["batch"]})
    endpoint = fields.String(required=True, metadata={"enum": list(ENDPOINTS)})
    errors = fields.Nested(BatchErrorsSchema, required=True, allow_none=True)
    input_file_id = fields.String(required=True)
    completion_window = fields.String(required=True)
    status = fields.String(required=True, metadata={"enum": list(BatchStatus)})
    output_file_id = fields.String(required=True, allow_none=True)
    error_file_id = fields.String(required=True, allow_none=True)
    created_at = fields.Integer(required=True, metadata={"description": "Unix seconds."})
    in_progress_at = _moment()
    expires_at = _moment()
    finalizing_at = _moment()
    completed_at = _moment()
    failed_at = _moment()
    expired_at = _moment()
    cancelling_at = _moment()
    cancelled_at = _moment()
    request_counts = fields.Nested(RequestCountsSchema, required=True)
    metadata = fields.Dict(keys=fields.String(), values=fields.String(), required=True, allow_none=True)
    priority = fields.String(required=True, metadata={"enum": list(Priority)})
    held_up = fields.Nested(
        HeldUpSchema,
        required=True,
        allow_none=True,
        metadata={"description": "The limit because of which no more lines are accepted for now."},
    )


class BatchPageSchema(Schema):
    object = fields.String(required=True, metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(BatchSchema), required=True)
    first_id = fields.String(required=True, allow_none=True)
    last_id = fields.String(required=True, allow_none=True)
    has_more = fields.Boolean(required=True)

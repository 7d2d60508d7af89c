"""How files are uploaded, listed and shown, as in the OpenAI API."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields

from api.schemas.fields import QueryInt, UploadedFile
from intake.fields import Text, choice
from intake.strict import Strict

#: From an hour to 30 days, as in the OpenAI API.
MIN_EXPIRY_S, MAX_EXPIRY_S = 3600, 30 * 86400
PURPOSES = ("batch", "batch_output")


class FileForm(Schema):
    """The form of an upload, for the specification: it is read as it comes."""

    file = UploadedFile(required=True, metadata={"description": "JSON lines, up to 200 MB."})
    purpose = choice("batch", required=True)
    expires_after_anchor = choice("created_at", data_key="expires_after[anchor]")
    expires_after_seconds = fields.Integer(
        data_key="expires_after[seconds]", metadata={"minimum": MIN_EXPIRY_S, "maximum": MAX_EXPIRY_S}
    )


class FileFields(Strict):
    """What the form has beside the file."""

    purpose = choice("batch", required=True, error_messages={"required": "is missing: send purpose=batch"})
    expires_after_anchor = choice("created_at", data_key="expires_after[anchor]")
    expires_after_seconds = QueryInt(min=MIN_EXPIRY_S, max=MAX_EXPIRY_S, data_key="expires_after[seconds]")


class FilesQuery(Schema):
    limit = QueryInt(min=1, max=10_000, load_default=1_000)
    after = Text(max=100)
    order = choice("asc", "desc", load_default="desc")
    purpose = choice(*PURPOSES)


class FileSchema(Schema):
    id = fields.String(required=True)
    object = fields.String(required=True, metadata={"enum": ["file"]})
    bytes = fields.Integer(required=True)
    created_at = fields.Integer(required=True, metadata={"description": "Unix seconds."})
    filename = fields.String(required=True)
    purpose = fields.String(required=True, metadata={"enum": list(PURPOSES)})
    status = fields.String(required=True, metadata={"enum": ["processed"]})
    expires_at = fields.Integer(metadata={"description": "Unix seconds."})


class FilePageSchema(Schema):
    object = fields.String(required=True, metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(FileSchema), required=True)
    first_id = fields.String(required=True, allow_none=True)
    last_id = fields.String(required=True, allow_none=True)
    has_more = fields.Boolean(required=True)


class DeletedFileSchema(Schema):
    id = fields.String(required=True)
    object = fields.String(required=True, metadata={"enum": ["file"]})
    deleted = fields.Boolean(required=True)


def list_of(views: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """A page as the OpenAI API has it."""
    return {
        "object": "list",
        "data": views,
        "first_id": views[0]["id"] if views else None,
        "last_id": views[-1]["id"] if views else None,
        "has_more": has_more,
    }

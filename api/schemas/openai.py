"""The answers of the OpenAI images API."""

from __future__ import annotations

from marshmallow import Schema, fields


class OpenAIImageSchema(Schema):
    url = fields.String(metadata={"format": "uri", "description": "Works for one hour."})
    b64_json = fields.String()


class UsageSchema(Schema):
    """Zeros: nothing is counted in tokens here."""

    total_tokens = fields.Integer(required=True)
    input_tokens = fields.Integer(required=True)
    output_tokens = fields.Integer(required=True)
    input_tokens_details = fields.Dict(required=True)


class ImagesAnswerSchema(Schema):
    created = fields.Integer(required=True, metadata={"description": "Unix seconds."})
    data = fields.List(fields.Nested(OpenAIImageSchema), required=True)
    background = fields.String()
    output_format = fields.String()
    quality = fields.String()
    size = fields.String()
    usage = fields.Nested(UsageSchema)

"""How an image is shown."""

from __future__ import annotations

from marshmallow import Schema, fields

from api.schemas.fields import QueryInt, UploadedFile
from intake.fields import Text
from intake.strict import Strict
from shared.requests import OUTPUT_FORMATS


class ImageSchema(Schema):
    """A picture."""

    id = fields.String(required=True, metadata={"pattern": "^image_[a-zA-Z0-9]{24}$"})
    name = fields.String(required=True)
    url = fields.String(required=True, allow_none=True, metadata={"description": "Set while it is published."})
    width = fields.Integer(required=True)
    height = fields.Integer(required=True)
    format = fields.String(required=True, metadata={"enum": list(OUTPUT_FORMATS)})
    size = fields.Integer(required=True, metadata={"description": "Bytes."})
    created_at = fields.String(required=True, metadata={"format": "date-time"})
    seed = fields.Integer(required=True, allow_none=True)
    model = fields.String(required=True, allow_none=True)
    job_id = fields.String(required=True, allow_none=True)


class PageLinksSchema(Schema):
    previous = fields.String(required=True, allow_none=True, metadata={"format": "uri"})
    next = fields.String(required=True, allow_none=True, metadata={"format": "uri"})


class ImagePageSchema(Schema):
    data = fields.List(fields.Nested(ImageSchema), required=True)
    links = fields.Nested(PageLinksSchema, required=True)


class ImagesQuery(Strict):
    take = QueryInt(min=1, max=100, load_default=10)
    from_ = Text(max=100, data_key="from", metadata={"description": "The id of the image to begin with."})


class UploadForm(Strict):
    image = UploadedFile(required=True)
    name = Text(max=100, required=True)

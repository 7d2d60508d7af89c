"""How a model is shown."""

from __future__ import annotations

from marshmallow import Schema, fields

from shared.models import Mode


class ModelSchema(Schema):
    """A model; `id`, `object`, `created` and `owned_by` are those of the OpenAI API."""

    id = fields.String(required=True)
    object = fields.String(required=True, metadata={"enum": ["model"]})
    created = fields.Integer(required=True, metadata={"description": "Unix seconds."})
    owned_by = fields.String(required=True)
    name = fields.String(required=True)
    family = fields.String(required=True)
    modes = fields.List(fields.String(metadata={"enum": list(Mode)}), required=True)
    licence = fields.String(required=True)
    aliases = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String()),
        required=True,
        metadata={"description": "Other names, each with the modes in which it stands for this model."},
    )
    parameters = fields.Dict(
        keys=fields.String(),
        values=fields.Dict(),
        required=True,
        metadata={"description": "What a job of this model may say, with limits and defaults."},
    )
    negative_prompt_cost = fields.String(required=True, allow_none=True)
    price = fields.Float(required=True, metadata={"description": "Credits for one step over a megapixel."})
    batch_limit = fields.Integer(required=True, metadata={"description": "Most images rendered at once."})
    live_workers = fields.Integer(required=True)


class ModelPageSchema(Schema):
    object = fields.String(required=True, metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(ModelSchema), required=True)

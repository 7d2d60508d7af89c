"""The shape of errors, for the specification."""

from __future__ import annotations

from marshmallow import INCLUDE, Schema, fields

from shared.errors import ERRORS


class ProblemSchema(Schema):
    """A problem document (RFC 9457); some codes have members of their own, such as `models`."""

    class Meta:
        unknown = INCLUDE

    type = fields.String(required=True, metadata={"description": "`urn:rendermill:error:` and the code."})
    title = fields.String(required=True, metadata={"description": "The same for every problem of a code."})
    status = fields.Integer(required=True)
    detail = fields.String(required=True, metadata={"description": "What was wrong, and what to do."})
    code = fields.String(required=True, metadata={"enum": list(ERRORS)})
    instance = fields.String(metadata={"description": "The id of the request, as in `X-Request-Id`."})
    error = fields.Dict(metadata={"description": "The same as the OpenAI SDKs read it, where they may be asking."})
    errors = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String()),
        metadata={"description": "Every wrong field, with what is wrong with it."},
    )

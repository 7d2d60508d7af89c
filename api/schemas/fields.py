"""Fields of what only HTTP has: queries and forms."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields
from werkzeug.datastructures import FileStorage

from intake.fields import Bool, Int


class QueryInt(Int):
    """A whole number in a query, where everything is text."""

    def _deserialize(self, value: Any, *args: Any, **options: Any) -> int:
        # Nine digits are more than any limit here, and few enough for int().
        if not (isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9):
            raise ValidationError("must be a whole number")
        return super()._deserialize(int(value), *args, **options)


class QueryBool(Bool):
    """True or false in a query."""

    def _deserialize(self, value: Any, *args: Any, **options: Any) -> bool:
        return super()._deserialize({"true": True, "false": False}.get(value), *args, **options)


class UploadedFile(fields.Field[bytes]):
    """A file of a multipart form, as its bytes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(metadata={"type": "string", "format": "binary", **options.pop("metadata", {})}, **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bytes:
        if not isinstance(value, FileStorage):
            raise ValidationError("must be a file")
        data: bytes = value.read()
        return data

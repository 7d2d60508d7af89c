"""Schemas that refuse what they do not know, and say what may have been meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import Schema, ValidationError

from shared.wording import closest

_UNKNOWN = "is unknown"


class Strict(Schema):
    #: A body that works, for the specification.
    EXAMPLE: ClassVar[Mapping[str, Any] | None] = None

    error_messages = {"type": "must be a JSON object", "unknown": _UNKNOWN}  # noqa: RUF012 - the interface of marshmallow

    def handle_error(self, error: ValidationError, data: Any, **_: Any) -> None:  # noqa: ARG002
        """Add to what is told of unknown fields which one is closest, or which there are."""
        if not isinstance(error.messages, dict):
            return
        known = [field.data_key or name for name, field in self.load_fields.items()]
        for name, words in error.messages.items():
            if words == [_UNKNOWN]:
                meant = closest(str(name), known)
                told = f"did you mean {meant}?" if meant else f"known are {', '.join(sorted(known))}"
                error.messages[name] = [f"{_UNKNOWN}; {told}"]

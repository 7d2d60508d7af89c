"""Fields that take exactly their own JSON type: no string is a number, no boolean an integer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields

from shared.wording import plain

#: The longest prompt that any dialect takes, the OpenAI API's; far beyond what a text encoder reads.
MAX_PROMPT = 32_000
_UNFIT = re.compile("[\\0\ud800-\udfff]")


def check_text(text: str) -> None:
    """Raise ValidationError for characters that no database, file name or tokenizer agrees on."""
    found = _UNFIT.search(text)
    if found is not None:
        is_nul = found[0] == "\0"
        raise ValidationError(
            "must not contain the character NUL" if is_nul else "must not contain half of a surrogate pair"
        )


class Text(fields.Field[str]):
    """A string of `min` to `max` characters."""

    def __init__(self, *, min: int = 1, max: int, choices: tuple[str, ...] = (), **options: Any) -> None:  # noqa: A002
        metadata: dict[str, Any] = {"type": "string", "minLength": min, "maxLength": max, **options.pop("metadata", {})}
        if choices:
            none = [None] if options.get("allow_none") else []
            metadata = {"type": "string", "enum": [*choices, *none], **options.pop("metadata", {})}
        super().__init__(metadata=metadata, **options)
        self._min, self._max, self._choices = min, max, choices

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError("must be a string")
        if self._choices and value not in self._choices:
            raise ValidationError(f"must be one of {', '.join(self._choices)}")
        if not self._min <= len(value) <= self._max:
            raise ValidationError(f"must be {self._min} to {self._max} characters; this is {len(value)}")
        check_text(value)
        return value


def choice(*choices: str, **options: Any) -> Text:
    """One of a few words."""
    return Text(max=max(map(len, choices)), choices=choices, **options)


class Number(fields.Field[float]):
    """A finite number between `min` and `max`."""

    def __init__(self, *, min: float, max: float, **options: Any) -> None:  # noqa: A002
        super().__init__(
            metadata={"type": "number", "minimum": min, "maximum": max, **options.pop("metadata", {})}, **options
        )
        self._min, self._max = min, max

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValidationError("must be a number")
        # What is no number, or infinite, is not between them either.
        if not self._min <= value <= self._max:
            raise ValidationError(f"must be between {plain(self._min)} and {plain(self._max)}")
        return value


class Int(fields.Field[int]):
    """A whole number between `min` and `max`."""

    def __init__(self, *, min: int, max: int, **options: Any) -> None:  # noqa: A002
        super().__init__(
            metadata={"type": "integer", "minimum": min, "maximum": max, **options.pop("metadata", {})}, **options
        )
        self._min, self._max = min, max

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValidationError("must be a whole number")
        if not self._min <= value <= self._max:
            raise ValidationError(f"must be between {self._min} and {self._max}")
        return value


class Bool(fields.Field[bool]):
    def __init__(self, **options: Any) -> None:
        super().__init__(metadata={"type": "boolean", **options.pop("metadata", {})}, **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("must be true or false")
        return value


class Metadata(fields.Field[dict[str, str]]):
    """The client's own notes on a job, given back with it; the limits are those of the OpenAI API."""

    MAX_ENTRIES = 16
    MAX_KEY = 64
    MAX_VALUE = 512

    def __init__(self, **options: Any) -> None:
        super().__init__(
            metadata={
                "type": "object",
                "maxProperties": self.MAX_ENTRIES,
                "propertyNames": {"minLength": 1, "maxLength": self.MAX_KEY},
                "additionalProperties": {"type": "string", "maxLength": self.MAX_VALUE},
                **options.pop("metadata", {}),
            },
            **options,
        )

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> dict[str, str]:
        if not isinstance(value, Mapping):
            raise ValidationError("must be an object")
        if len(value) > self.MAX_ENTRIES:
            raise ValidationError(f"must have at most {self.MAX_ENTRIES} members")
        for key, text in value.items():
            if not 1 <= len(key) <= self.MAX_KEY:
                raise ValidationError(f"its keys must be 1 to {self.MAX_KEY} characters")
            if not isinstance(text, str) or len(text) > self.MAX_VALUE:
                raise ValidationError(f"its values must be strings of at most {self.MAX_VALUE} characters")
            check_text(key)
            check_text(text)
        return dict(value)

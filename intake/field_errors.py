"""Marshmallow's errors in one flat table."""

from __future__ import annotations

from collections.abc import Mapping

#: What schemas call errors that belong to no field.
_NO_FIELD = "_schema"


def field_errors(messages: object, path: str = "") -> dict[str, list[str]]:
    """Marshmallow's nested messages as one list of words for each dotted field."""
    if isinstance(messages, Mapping):
        found: dict[str, list[str]] = {}
        for name, inner in messages.items():
            step = path if name == _NO_FIELD else f"{path}.{name}" if path else str(name)
            for field, inner_words in field_errors(inner, step).items():
                found.setdefault(field, []).extend(inner_words)
        return found
    words: list[object] = messages if isinstance(messages, list) else [messages]
    return {path or "body": [str(word) for word in words]}

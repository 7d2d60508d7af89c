"""What a farm answers, as objects. Whatever lacks what is asked of it was not said by this kind of farm."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import httpx

from client.errors import NotUnderstood

T = TypeVar("T")
_WHY = "it is no farm of Rendermill, or one of another version"


class Answer(dict[str, Any]):
    """An object of an answer, at any depth. Raises NotUnderstood where it lacks a member that is asked for."""

    def __missing__(self, name: str) -> Any:
        raise NotUnderstood(f"What answers has no {name!r} where one is expected: {_WHY}")


def answer_of(response: httpx.Response) -> Answer:
    """The object that was answered. Raises NotUnderstood where it is none."""
    return parsed(response.content, str(response.url))


def parsed(text: str | bytes, source: str) -> Answer:
    """The object of a text of JSON that came from `source`. Raises NotUnderstood where it is none."""
    try:
        found = json.loads(text, object_hook=Answer)
    except (ValueError, RecursionError) as error:
        raise NotUnderstood(f"{source} is not answered in JSON: {_WHY}") from error
    if not isinstance(found, Answer):
        raise NotUnderstood(f"{source} is not answered with an object: {_WHY}")
    return found


def items(page: Answer) -> list[Answer]:
    """The objects of a list. Raises NotUnderstood where they are none."""
    found = page["data"]
    if not isinstance(found, list) or not all(isinstance(one, Answer) for one in found):
        raise NotUnderstood(f"What answers has no list of objects where one is expected: {_WHY}")
    return found


def understood(make: Callable[[Mapping[str, Any]], T], data: Mapping[str, Any]) -> T:
    """What `make` makes of an object. Raises NotUnderstood where its members are of other kinds than a farm's."""
    try:
        return make(data)
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise NotUnderstood(f"What answers says {error}: {_WHY}") from error

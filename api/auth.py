"""Who is asking: an API key in `Authorization: Bearer` or `x-api-key`.

Every route asks for a key unless its view is marked `public`. A process remembers for a second whose a valid key is, so
a revoked one stops to work within that time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from flask import Flask, current_app, g, request

from api.services import services
from shared.errors import RendermillError

_View = TypeVar("_View", bound=Callable[..., Any])

_PUBLIC = "_rendermill_public"


def public(view: _View) -> _View:
    """Let the view be called without a key. The outermost decorator but the route's."""
    setattr(view, _PUBLIC, True)
    return view


def is_public(view: Callable[..., Any]) -> bool:
    return getattr(view, _PUBLIC, False)


def require_keys(app: Flask) -> None:
    """Refuse requests without a valid key, before their body is read."""
    app.before_request(_authenticate)


def account() -> str:
    """The account whose key the current request bears."""
    return cast(str, g.account)


def _authenticate() -> None:
    if (
        request.endpoint is None
        or request.method == "OPTIONS"
        or is_public(current_app.view_functions[request.endpoint])
    ):
        return
    key = _key()
    found = services().known_keys.account_of(key) if key else None
    if found is None:
        what = "This API key is not valid." if key else "An API key is needed."
        raise RendermillError(
            "unauthenticated",
            f"{what} Send 'Authorization: Bearer KEY' or 'x-api-key: KEY'.",
            headers={"WWW-Authenticate": 'Bearer realm="rendermill"'},
        )
    g.account = found


def _key() -> str | None:
    if key := request.headers.get("x-api-key"):
        return key.strip()
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None

"""Small things of answers: an id, sensible headers, compact JSON, bodies that come in pieces."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from flask import Flask, Response, g, json, request
from flask.json.provider import DefaultJSONProvider

from shared.ids import new_id

#: What a client's own request id may look like.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")


class CompactJSON(DefaultJSONProvider):
    """JSON without blanks, its members in the order in which they were given."""

    sort_keys = False

    def dumps(self, obj: Any, **options: Any) -> str:
        return super().dumps(obj, separators=(",", ":"), **options)


def number_requests(app: Flask) -> None:
    """Give each request an id, its client's or a new one, and each answer the headers that all have."""

    @app.before_request
    def take_id() -> None:
        given = request.headers.get("X-Request-Id", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else new_id("req")

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.get("request_id") or new_id("req")
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers.setdefault("Referrer-Policy", "no-referrer")
        response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        response.headers.setdefault("Cache-Control", "no-store")
        return response


def json_response(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(data), status=status, content_type="application/json", headers=headers)


def tagged_json(data: Any) -> Response:
    """JSON with an ETag; 304 without it where the client has the same already."""
    response = json_response(data)
    response.set_etag(hashlib.sha256(response.get_data()).hexdigest()[:32])
    response.headers["Cache-Control"] = "private, no-cache"
    response.make_conditional(request)
    return response


def begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces of an answer, the first read already: once it has gone out, it is too late to answer with an error."""
    return chain([next(pieces, b"")], pieces)

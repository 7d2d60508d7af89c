"""Server-sent events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import Response, json, stream_with_context

from api.services import services
from shared.errors import RendermillError

#: A stream ends after this long; clients come back with `Last-Event-ID` by themselves.
STREAM_S = 3600.0
#: A line that clients pass over; it keeps proxies from closing, and finds clients that are gone.
HEARTBEAT = ": still here\n\n"


def message(data: Any, *, event: str | None = None, id_: str | None = None) -> str:
    """One event with JSON for its data."""
    lines = [f"id: {id_}\n"] if id_ else []
    if event:
        lines.append(f"event: {event}\n")
    return "".join([*lines, f"data: {json.dumps(data)}\n\n"])


def hold_place() -> None:
    """Take a place among the waiting clients. Raises RendermillError `busy` where all are taken."""
    if not services().waiters.try_hold():
        raise RendermillError(
            "busy",
            "Too many clients wait on this server; ask again later, or without waiting.",
            headers={"Retry-After": "5"},
        )


def event_stream(messages: Iterator[str], headers: dict[str, str] | None = None) -> Response:
    """A response that sends the messages as they come. A place must be held; it is given back at the end."""
    response = Response(stream_with_context(messages), content_type="text/event-stream", headers=headers)
    response.call_on_close(services().waiters.release)
    # Proxies that collect answers would keep events back.
    response.headers["X-Accel-Buffering"] = "no"
    return response

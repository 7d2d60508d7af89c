"""The file of one batch, made of requests in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from client.batches import MAX_BYTES, MAX_LINES
from client.errors import LineError
from client.lines import Line, line_of, row_of


def of(requests: Iterable[Mapping[str, Any] | str], fields: Mapping[str, Any]) -> tuple[str, bytes]:
    """The endpoint and the file of these requests: prompts, bodies of jobs, or lines as of a file.

    A body that lacks one of `fields` has it from there. Raises LineError for what is no request, or too much for one
    batch, or for several endpoints.
    """
    rows: list[bytes] = []
    endpoint = None
    for number, request in enumerate(requests, start=1):
        line = line_of(number, {"prompt": request} if isinstance(request, str) else request)
        endpoint = endpoint or line.url
        if line.url != endpoint:
            raise LineError(f"line {number} is for {line.url}, others for {endpoint}; make a batch of each")
        rows.append(entry(line, {**fields, **line.body}))
    if endpoint is None:
        raise LineError("there are no lines")
    content = b"".join(rows)
    if len(rows) > MAX_LINES or len(content) > MAX_BYTES:
        raise LineError(f"a batch has at most {MAX_LINES:,} lines and {MAX_BYTES:,} bytes; make several")
    return endpoint, content


def entry(line: Line, body: Mapping[str, Any]) -> bytes:
    """A line as the farm takes it in batches."""
    return row_of({"custom_id": line.name, "method": "POST", "url": line.url, "body": body})

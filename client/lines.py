"""JSON Lines: one request a line.

A line is the body of a job, or an envelope that says where the body goes, as in the batch files of OpenAI:

    {"model": "flux-schnell", "prompt": "a lighthouse"}
    {"custom_id": "two", "method": "POST", "url": "/v1/images/imagine", "body": {"name": "cat", "prompt": "a cat"}}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from client.errors import ClientError

NATIVE_PATH = "/v1/jobs"
_ENVELOPE = {"custom_id", "method", "url", "headers", "body"}


class LineError(ClientError):
    """A line that is no request; the message begins with its number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One request. `number` counts from 1, blank lines included, as editors do."""

    number: int
    custom_id: str | None
    url: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def native(self) -> bool:
        return self.url == NATIVE_PATH


def read_lines(text: str) -> Iterator[Line]:
    """The requests of `text`. Blank lines are skipped. Raises LineError at the first line that is none."""
    for number, row in enumerate(text.splitlines(), start=1):
        if row.strip():
            yield _parse(number, row)


def _parse(number: int, row: str) -> Line:
    try:
        data = json.loads(row)
    except ValueError as error:
        raise LineError(f"line {number} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise LineError(f"line {number} is not a JSON object")
    if not data.keys() & {"url", "body"}:
        return Line(number=number, custom_id=None, url=NATIVE_PATH, headers={}, body=data)
    if unknown := sorted(data.keys() - _ENVELOPE):
        raise LineError(f"line {number}: an envelope does not take {', '.join(unknown)}: put it into 'body'")
    if data.get("method", "POST") != "POST":
        raise LineError(f"line {number}: 'method' must be POST")
    url, body, headers = data.get("url"), data.get("body"), data.get("headers", {})
    if not isinstance(url, str) or not url.startswith("/"):
        raise LineError(f"line {number}: 'url' must be a path such as {NATIVE_PATH}")
    if not isinstance(body, dict) or not isinstance(headers, dict):
        raise LineError(f"line {number}: 'body' and 'headers' must be objects")
    return Line(number=number, custom_id=data.get("custom_id"), url=url, headers=headers, body=body)

"""What a line of a file of requests is.

A line is the body of a job, or an envelope that says where the body goes, as in the batch files of OpenAI:

    {"model": "flux-schnell", "prompt": "a lighthouse"}
    {"custom_id": "two", "method": "POST", "url": "/v1/images/imagine", "body": {"name": "cat", "prompt": "a cat"}}

`custom_id` may stand in either.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from client.errors import LineError

NATIVE_PATH = "/v1/jobs"
#: What the farm takes in batches; lines for other routes are sent one by one.
BATCH_PATHS = (NATIVE_PATH, "/v1/images/generations", "/v1/images/edits")
#: How the routes of the OpenAI API end, under whatever base.
_OPENAI = ("/images/generations", "/images/edits")
_ENVELOPE = {"custom_id", "method", "url", "headers", "body"}
_MAX_CUSTOM_ID = 512


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

    @property
    def batchable(self) -> bool:
        """Whether it can be a line of a batch, where headers have no place."""
        return self.url in BATCH_PATHS and not self.headers

    @property
    def takes_model(self) -> bool:
        """Whether its `model` is a name of the farm's catalog; other services' routes have names of their own."""
        return self.native or self.url.endswith(_OPENAI)

    @property
    def name(self) -> str:
        """Its `custom_id`, or one made of its number."""
        return self.custom_id if self.custom_id is not None else f"line-{self.number:05d}"


def json_lines(rows: Iterable[str]) -> Iterator[Line]:
    """The requests of rows of JSON, of which blank ones are skipped. Raises LineError at the first that is none."""
    for number, row in enumerate(rows, start=1):
        if not row.strip():
            continue
        try:
            data = json.loads(row)
        except json.JSONDecodeError as error:
            raise LineError(f"line {number} is not JSON: {error.msg} at character {error.pos + 1}") from error
        except RecursionError as error:
            raise LineError(f"line {number} is not JSON that can be read: it is nested too deep") from error
        yield line_of(number, data)


def row_of(data: Any) -> bytes:
    """Data as a row of JSON. Half a pair of surrogates, which JSON can say and UTF-8 cannot, is told by its number."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace") + b"\n"


def prompt_lines(rows: Iterable[str]) -> Iterator[Line]:
    """The requests of rows that are prompts and nothing else. Blank ones are skipped."""
    for number, row in enumerate(rows, start=1):
        if prompt := row.strip():
            yield line_of(number, {"prompt": prompt})


def line_of(number: int, data: object) -> Line:
    """The request of one line. Raises LineError."""
    if not isinstance(data, Mapping):
        raise LineError(f"line {number} is not a JSON object")
    custom_id = data.get("custom_id")
    if custom_id is not None and not (isinstance(custom_id, str) and 1 <= len(custom_id) <= _MAX_CUSTOM_ID):
        raise LineError(f"line {number}: 'custom_id' must be a text of 1 to {_MAX_CUSTOM_ID} characters")
    if not data.keys() & {"url", "body"}:
        body = {name: value for name, value in data.items() if name != "custom_id"}
        return Line(number=number, custom_id=custom_id, url=NATIVE_PATH, headers={}, body=body)
    if unknown := sorted(data.keys() - _ENVELOPE):
        raise LineError(f"line {number}: an envelope does not take {', '.join(unknown)}: put it into 'body'")
    if data.get("method", "POST") != "POST":
        raise LineError(f"line {number}: 'method' must be POST")
    url, found, headers = data.get("url"), data.get("body"), data.get("headers", {})
    if not isinstance(url, str) or not url.startswith("/"):
        raise LineError(f"line {number}: 'url' must be a path such as {NATIVE_PATH}")
    if not isinstance(found, Mapping) or not isinstance(headers, Mapping):
        raise LineError(f"line {number}: 'body' and 'headers' must be objects")
    return Line(number=number, custom_id=custom_id, url=url, headers=headers, body=found)

"""Batches and their files as the farm describes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from client.notebook import bar, table

#: A batch in one of these states never changes again.
TERMINAL = frozenset({"completed", "failed", "expired", "cancelled"})
#: The farm's limits on the file of one batch, and on one of its lines.
MAX_LINES = 50_000
MAX_BYTES = 200 * 2**20
MAX_LINE_BYTES = 4 * 2**20
_WINDOW = re.compile(r"(\d{1,3})([hd])")
_HOURS = {"h": 1, "d": 24}
_MAX_WINDOW_HOURS = 14 * 24


def is_window(text: str) -> bool:
    """Whether the farm takes this for the time that a batch has: hours or days, at most 14d."""
    match = _WINDOW.fullmatch(text)
    return match is not None and 0 < int(match[1]) * _HOURS[match[2]] <= _MAX_WINDOW_HOURS


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of requests, or of what became of them. `bytes` is its size."""

    id: str
    filename: str
    purpose: str
    bytes: int
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**{name: data[name] for name in ("id", "filename", "purpose", "bytes")}, raw=data)


@dataclass(frozen=True, kw_only=True)
class LineFailure:
    """A line of a batch that made no pictures, and why. `line` counts from 1 where the farm tells it."""

    custom_id: str | None
    line: int | None
    code: str
    message: str

    @classmethod
    def from_json(cls, data: Mapping[str, Any], custom_id: str | None = None) -> Self:
        return cls(custom_id=custom_id, line=data.get("line"), code=data["code"], message=data["message"])


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Many requests that were handed in as one file. `raw` is the whole object as the farm sent it."""

    id: str
    status: str
    endpoint: str
    priority: str | None
    #: Lines; known once the file was counted.
    total: int
    completed: int
    failed: int
    #: Why it failed as a whole.
    errors: list[LineFailure]
    input_file_id: str
    output_file_id: str | None
    error_file_id: str | None
    metadata: Mapping[str, str] | None
    #: The limit because of which no more lines are accepted for now: its `code` and `message`.
    held_up: Mapping[str, str] | None
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def finished(self) -> bool:
        return self.status in TERMINAL

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        counts = data.get("request_counts") or {}
        return cls(
            id=data["id"],
            status=data["status"],
            endpoint=data["endpoint"],
            priority=data.get("priority"),
            total=counts.get("total", 0),
            completed=counts.get("completed", 0),
            failed=counts.get("failed", 0),
            errors=[LineFailure.from_json(error) for error in (data.get("errors") or {}).get("data", [])],
            input_file_id=data["input_file_id"],
            output_file_id=data.get("output_file_id"),
            error_file_id=data.get("error_file_id"),
            metadata=data.get("metadata"),
            held_up=data.get("held_up"),
            raw=data,
        )

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [("batch", self.id), ("status", self.status), ("endpoint", self.endpoint)]
        rows += [("completed", f"{self.completed:,}"), ("failed", f"{self.failed:,}")]
        rows += [("error", error.message) for error in self.errors]
        rows += [("held up", self.held_up["message"])] if self.held_up else []
        return table(rows) + bar(self.completed, self.failed, self.total)

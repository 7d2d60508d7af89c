"""Jobs and images as the farm describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

#: A job in one of these states never changes again.
TERMINAL = frozenset({"succeeded", "failed", "canceled", "expired"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One finished picture. `size` is in bytes; `url` is set while it is public."""

    id: str
    name: str | None
    url: str | None
    width: int
    height: int
    format: str
    size: int
    created_at: str
    seed: int | None
    model: str | None
    job_id: str | None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        known: dict[str, Any] = {f.name: data.get(f.name) for f in fields(cls)}
        return cls(**known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One accepted request. `raw` is the whole object as the farm sent it."""

    id: str
    status: str
    stage: str | None
    #: 0 to 1.
    progress: float
    queue_position: int | None
    #: Predicted seconds until it is finished.
    eta_s: float | None
    model: str
    images: list[Image]
    #: `code` and `message` of a job that failed.
    error: Mapping[str, str] | None
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def finished(self) -> bool:
        return self.status in TERMINAL

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            id=data["id"],
            status=data["status"],
            stage=data.get("stage"),
            progress=data.get("progress") or 0.0,
            queue_position=data.get("queue_position"),
            eta_s=data.get("eta_s"),
            model=data["model"],
            images=[Image.from_json(image) for image in data.get("images") or []],
            error=data.get("error"),
            raw=data,
        )

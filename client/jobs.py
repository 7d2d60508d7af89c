"""Jobs as the farm describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from client.images import Images, Load
from client.notebook import table

#: A job in one of these states never changes again.
TERMINAL = frozenset({"succeeded", "failed", "canceled", "expired"})


@dataclass(frozen=True, kw_only=True)
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
    images: Images
    #: `code` and `message` of a job that failed.
    error: Mapping[str, str] | None
    #: Where it belongs to a batch.
    batch_id: str | None
    custom_id: str | None
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def finished(self) -> bool:
        return self.status in TERMINAL

    @property
    def succeeded(self) -> bool:
        return self.status == "succeeded"

    @property
    def reason(self) -> str | None:
        """Why it ended without pictures, in words."""
        if self.succeeded or not self.finished:
            return None
        return self.error["message"] if self.error else f"The job is {self.status}."

    @property
    def warnings(self) -> list[str]:
        """What of the request was changed or has no effect."""
        return list(self.raw.get("warnings") or [])

    @property
    def seed(self) -> int | None:
        """The seed of its first picture; each further one's is one more."""
        seed: int | None = (self.raw.get("input") or {}).get("seed")
        return seed

    @classmethod
    def from_json(cls, data: Mapping[str, Any], load: Load | None = None) -> Self:
        return cls(
            id=data["id"],
            status=data["status"],
            stage=data.get("stage"),
            progress=data.get("progress") or 0.0,
            queue_position=data.get("queue_position"),
            eta_s=data.get("eta_s"),
            model=data["model"],
            images=Images.from_json(data.get("images") or [], load),
            error=data.get("error"),
            batch_id=data.get("batch_id"),
            custom_id=data.get("custom_id"),
            raw=data,
        )

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [("job", self.id), ("status", self.status), ("model", self.model)]
        if not self.finished:
            rows += [("progress", f"{self.progress:.0%}"), ("jobs before it", self.queue_position)]
        if self.reason:
            rows.append(("reason", self.reason))
        return table(rows) + (self.images._repr_html_() if self.images else "")

"""Server-sent events, read and resumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from client.answers import parsed
from client.batches import Batch
from client.errors import ApiError, Unreachable
from client.jobs import Job
from client.retry import Patience
from client.steps import Call, Emit, Listen, NextLine, Pause, Script

NO_CONTENT = 204
#: A stream that ended before what it tells of is resumed after this long.
RESUME_S = 0.5
Read = Callable[[str, str, Mapping[str, Any]], "Event"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """A change of a job or batch: its name, such as `job.progress`, and the whole object as it was then."""

    id: str
    name: str
    data: Job | Batch

    @property
    def last(self) -> bool:
        """Whether no other event comes after it."""
        return self.data.finished


def following(path: str, last_id: str | None, patience_s: float, read: Read) -> Script[None]:
    """Emits the events of a stream up to the last one. A stream that breaks is resumed for `patience_s` seconds."""
    patience = Patience(patience_s)
    while True:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        try:
            if (yield Listen(Call(method="GET", path=path, headers=headers))) == NO_CONTENT:
                return
            fields: dict[str, str] = {}
            while (line := (yield NextLine())) is not None:
                if line:
                    name, _, value = line.partition(":")
                    fields[name] = value.removeprefix(" ")
                    continue
                if "data" in fields:
                    last_id = fields.get("id", last_id)
                    event = read(last_id or "", fields.get("event", "message"), parsed(fields["data"], path))
                    patience = Patience(patience_s)
                    yield Emit(event)
                    if event.last:
                        return
                fields = {}
            yield Pause(RESUME_S)
        except (ApiError, Unreachable) as error:
            if (wait_s := patience.wait_s(error)) is None:
                raise
            yield Pause(wait_s)

"""Following a batch. Each event has the whole batch, so what was missed need not be sent: only where it stands now.

An event's id is a digest of what it shows: who comes back with it hears nothing until something has changed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

from api.event_stream import HEARTBEAT, message
from api.services import Services
from shared.batches import Batch
from shared.events import POLL_S

#: A stream ends after this long; clients come back with `Last-Event-ID` by themselves.
_STREAM_S = 3600.0
#: A batch may finish many jobs a second; who follows it is told once in this time.
PROGRESS_EVERY_S = 1.0


def follow(farm: Services, batch: Batch, last_id: str | None) -> Iterator[str] | None:
    """The batch as it is, unless `last_id` says that this was seen, and as it changes; None where it is over."""
    if batch.status.is_terminal and last_id == _id(batch.view()):
        return None
    return _messages(farm, batch, last_id)


def _messages(farm: Services, batch: Batch, last_id: str | None) -> Iterator[str]:
    status = batch.status if last_id else None
    until = time.monotonic() + _STREAM_S
    with farm.events.woken(batch.id) as woken:
        while True:
            woken.clear()
            found = farm.batches.read(batch.id)
            if found is None:
                return
            view = found.view()
            if (id_ := _id(view)) != last_id:
                event = f"batch.{found.status}" if found.status is not status else "batch.progress"
                last_id, status = id_, found.status
                yield message(view, event=event, id_=id_)
            if found.status.is_terminal or time.monotonic() > until:
                return
            time.sleep(PROGRESS_EVERY_S)
            if not woken.wait(POLL_S):
                yield HEARTBEAT


def _id(view: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(view).encode()).hexdigest()[:24]

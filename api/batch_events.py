"""Following a batch: its progress, and if wanted each of its jobs as it ends.

An event of the batch has the whole batch, so what was missed of those need not be sent: only where it stands now. Each
finished job is told once, in the order in which they ended, however often a follower goes and comes back. An event's id
says what its reader has had: how many finished jobs, and a digest of the batch as it was last shown.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from api.event_stream import HEARTBEAT, STREAM_S, message
from api.services import Services
from shared.batches import Batch
from shared.events import POLL_S

#: A batch may finish many jobs a second; who follows it is told once in this time.
PROGRESS_EVERY_S = 1.0
#: Jobs read in one round trip.
_STEP = 100
_ID = re.compile(r"(\d{1,9})-([0-9a-f]{24})?")


class _Seen(NamedTuple):
    """What a follower has had."""

    jobs: int = 0
    batch: str = ""

    @classmethod
    def from_id(cls, text: str | None) -> _Seen:
        """As the event's id says; what is no such id is a fresh start."""
        match = _ID.fullmatch(text or "")
        return cls(int(match[1]), match[2] or "") if match else cls()

    def id(self) -> str:
        return f"{self.jobs}-{self.batch}"


def follow(farm: Services, batch: Batch, last_id: str | None, *, jobs: bool) -> Iterator[str] | None:
    """What a follower that was told `last_id` has not had, and what happens from now on; None where all is over.

    With `jobs` each finished job is an event as well.
    """
    seen = _Seen.from_id(last_id)
    if batch.status.is_terminal and seen.batch == _digest(batch.view()) and not (jobs and seen.jobs < batch.finished):
        return None
    return _messages(farm, batch.id, seen, jobs=jobs)


def _messages(farm: Services, batch_id: str, seen: _Seen, *, jobs: bool) -> Iterator[str]:
    status = None
    until = time.monotonic() + STREAM_S
    with farm.events.woken(batch_id) as woken:
        while True:
            woken.clear()
            batch = farm.batches.read(batch_id)
            if batch is None:
                return
            if jobs:
                # Those that the batch's own counts tell of, so that its event never comes before theirs.
                for number, job in _finished(farm, batch, seen.jobs):
                    seen = seen._replace(jobs=number)
                    yield message(job, event=f"job.{job['status']}", id_=seen.id())
                seen = seen._replace(jobs=max(seen.jobs, batch.finished))
            view = batch.view()
            if (digest := _digest(view)) != seen.batch:
                seen = seen._replace(batch=digest)
                event = f"batch.{batch.status}" if batch.status is not status else "batch.progress"
                status = batch.status
                yield message(view, event=event, id_=seen.id())
            if batch.status.is_terminal or time.monotonic() > until:
                return
            time.sleep(PROGRESS_EVERY_S)
            if not woken.wait(POLL_S):
                yield HEARTBEAT


def _finished(farm: Services, batch: Batch, after: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The jobs that ended after so many others, each with its number among them; removed ones are left out."""
    for first in range(after, batch.finished, _STEP):
        ids, _ = farm.batches.finished_jobs(batch.id, limit=min(_STEP, batch.finished - first), after=first)
        found = {number: job for number, job in enumerate(farm.records.read(ids), first + 1) if job is not None}
        yield from zip(found, farm.views.jobs(list(found.values())), strict=True)


def _digest(view: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(view).encode()).hexdigest()[:24]

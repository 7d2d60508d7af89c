"""Telling the scheduler what became of a job, also when Redis is away at that moment.

A verdict that cannot be told is dropped: the lease ends, and the sweeper gives the job to another attempt. Nothing
here raises, so that the verdict on one job of a batch never costs the others theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from redis.exceptions import RedisError

from shared.errors import JobFailure
from shared.images import Image
from shared.scheduler import Scheduler
from worker.leases import Hold, LeaseKeeper
from worker.litter import Litter
from worker.patience import patiently

_log = logging.getLogger(__name__)

T = TypeVar("T")

#: Longer than a restart of Redis that replays a large append-only file; a finished picture is worth the wait.
_REDIS_PATIENCE_S = 120.0


class Outcomes:
    def __init__(self, scheduler: Scheduler, keeper: LeaseKeeper, litter: Litter) -> None:
        self._scheduler = scheduler
        self._keeper = keeper
        self._litter = litter

    def succeed(self, hold: Hold, images: Sequence[Image], timings: Mapping[str, float], render_s: float) -> None:
        """The job has its pictures, already stored. `render_s` is its share of the device's time."""
        self._keeper.settle(hold)
        won = self._tell(
            hold,
            lambda: self._scheduler.complete(
                hold.lease,
                images={image.id: image.record() for image in images},
                result={"images": [image.id for image in images], "timings": timings},
                render_s=render_s,
            ),
        )
        if won is False:
            _log.warning(
                "%s was lost or called off before it was finished, in attempt %d", hold.lease.id, hold.lease.attempt
            )

    def fail(self, hold: Hold, failure: JobFailure) -> None:
        """The attempt failed; whether the job is tried again is the scheduler's affair."""
        self._keeper.settle(hold)
        status = self._tell(
            hold,
            lambda: self._scheduler.fail(hold.lease, failure.code, failure.message, retriable=failure.kind.retriable),
        )
        _log.warning("%s failed, now %s: %s", hold.lease.id, status or "somebody else's", failure)
        if status is None:
            self.drop(hold)

    def give_back(self, hold: Hold) -> None:
        """The worker goes away before the job is done: it returns to its old place, and no attempt is charged."""
        self._keeper.settle(hold)
        self._tell(hold, lambda: self._scheduler.release(hold.lease))
        _log.info("gave %s back", hold.lease.id)

    def drop(self, hold: Hold) -> None:
        """The job was called off or lost, and objects may have been stored since."""
        self._tell(hold, lambda: self._litter.note(hold.lease.id))

    def _tell(self, hold: Hold, verdict: Callable[[], T]) -> T | None:
        try:
            return patiently(verdict, RedisError, _REDIS_PATIENCE_S)
        except RedisError as error:
            _log.error("%s: nothing could be told, its lease will end: %s", hold.lease.id, error)
            return None

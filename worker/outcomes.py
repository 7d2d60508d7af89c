"""Telling the scheduler what became of a job, also when Redis is away at that moment.

A verdict that cannot be told is dropped: the lease ends, and the sweeper gives the job to another attempt. Nothing
here raises, so that the verdict on one job of a batch never costs the others theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from redis.exceptions import RedisError

from shared.answers import Aftermath
from shared.errors import JobFailure
from shared.images import Image
from shared.jobs import JobStatus
from shared.scheduler import Scheduler
from shared.waking import Waker
from worker import metrics
from worker.leases import Hold, LeaseKeeper
from worker.litter import Litter
from worker.patience import patiently

_log = logging.getLogger(__name__)

T = TypeVar("T")

#: Longer than a restart of Redis that replays a large append-only file; a finished picture is worth the wait.
_REDIS_PATIENCE_S = 120.0


class Outcomes:
    """Tells what became of each job, and wakes whom that gives something to do. Safe to share between threads."""

    def __init__(self, scheduler: Scheduler, keeper: LeaseKeeper, litter: Litter, waker: Waker) -> None:
        self._scheduler = scheduler
        self._keeper = keeper
        self._litter = litter
        self._waker = waker

    def succeed(
        self,
        hold: Hold,
        images: Sequence[Image],
        result: Mapping[str, Any],
        render_s: float,
    ) -> Aftermath | None:
        """The job has its pictures, already stored. `render_s` is its share of the device's time.

        None where it was lost, or where nobody could be told. Places that it left free are the caller's to fill, once
        for all jobs of its batch, lest its account's next ones be claimed one by one.
        """
        self._keeper.settle(hold)
        aftermath = self._tell(
            hold,
            lambda: self._scheduler.complete(
                hold.lease,
                images={image.id: image.record() for image in images},
                result=result,
                render_s=render_s,
            ),
        )
        if aftermath is None or aftermath.status is not JobStatus.SUCCEEDED:
            _log.warning("%s was not ended with the pictures of attempt %d", hold.lease.id, hold.lease.attempt)
        elif aftermath.late_s is not None:
            metrics.ETA_ERROR_SECONDS.labels(hold.lease.request.model).observe(aftermath.late_s)
        if aftermath is not None:
            self._waker.after_job(aftermath)
        return aftermath

    def fail(self, hold: Hold, failure: JobFailure) -> None:
        """The attempt failed; whether the job is tried again is the scheduler's affair."""
        self._keeper.settle(hold)
        aftermath = self._tell(
            hold,
            lambda: self._scheduler.fail(hold.lease, failure.code, failure.message, retriable=failure.kind.retriable),
        )
        status = aftermath.status if aftermath else "somebody else's"
        _log.warning("%s failed, now %s: %s", hold.lease.id, status, failure)
        if aftermath is None:
            self.drop(hold)
        else:
            self._waker.after_attempt(hold.lease.request.model, aftermath)

    def give_back(self, hold: Hold) -> None:
        """The worker goes away before the job is done: it returns to its old place, and no attempt is charged."""
        self._keeper.settle(hold)
        aftermath = self._tell(hold, lambda: self._scheduler.release(hold.lease))
        _log.info("gave %s back", hold.lease.id)
        if aftermath is not None:
            self._waker.after_attempt(hold.lease.request.model, aftermath)

    def drop(self, hold: Hold) -> None:
        """The job was called off or lost, and objects may have been stored since."""
        self._tell(hold, lambda: self._litter.note(hold.lease.id))

    def _tell(self, hold: Hold, verdict: Callable[[], T]) -> T | None:
        try:
            return patiently(verdict, RedisError, _REDIS_PATIENCE_S)
        except RedisError as error:
            _log.error("%s: nothing could be told, its lease will end: %s", hold.lease.id, error)
            return None

"""Upkeep: what keeps the farm true while nobody looks.

A thread, not a Celery schedule: it mends lost tickets, so it cannot depend on them. Any number of processes may run
it at once, for each of its steps is atomic or may be done twice.
"""

from __future__ import annotations

import logging
import time
from typing import cast

from redis import Redis
from redis.exceptions import RedisError

from shared.deliveries import Deliveries
from shared.images import Images
from shared.jobs import Job
from shared.records import Records
from shared.redis_client import PREFIX, Script
from shared.scheduler import Scheduler
from shared.storage import Storage, StorageError
from shared.tickets import Tickets
from shared.workers import Workers

_log = logging.getLogger(__name__)

#: How often leases, retries, deadlines, tickets and due webhooks are looked at.
_SWEEP_EVERY_S = 1.0
#: How often what is merely untidy is cleared away.
_TIDY_EVERY_S = 60.0
#: Jobs and images one round of tidying removes.
_TIDY_LIMIT = 500
#: The id of a removed job or image answers 410 for this long; afterwards 404.
_GONE_S = 30 * 86400


class Upkeep:
    def __init__(
        self,
        redis: Redis,
        *,
        scheduler: Scheduler,
        tickets: Tickets,
        deliveries: Deliveries,
        storage: Storage,
        retention_s: float,
        prefix: str = PREFIX,
    ) -> None:
        self._redis = redis
        self._prefix = prefix
        self._scheduler = scheduler
        self._tickets = tickets
        self._deliveries = deliveries
        self._storage = storage
        self._retention_s = retention_s
        self._records = Records(redis, prefix)
        self._images = Images(redis, prefix)
        self._workers = Workers(redis, prefix)
        self._forget = Script(redis, "forget", prefix)

    def run(self) -> None:
        """Sweep and tidy for ever; what is away for a while is waited for."""
        tidy_at = 0.0
        while True:
            try:
                self.sweep()
                if time.monotonic() >= tidy_at:
                    tidy_at = time.monotonic() + _TIDY_EVERY_S
                    self.tidy()
            except (RedisError, StorageError, OSError) as error:
                _log.warning("upkeep waits: %s", error)
            time.sleep(_SWEEP_EVERY_S)

    def sweep(self) -> None:
        """Bring back lost jobs, start retries, expire what is late, and see that tickets wait where work does."""
        swept = self._scheduler.sweep()
        if swept.leases_ended:
            _log.warning("%d leases ended without their worker", swept.leases_ended)
        for model, queued in self._scheduler.queued().items():
            # One is enough: the worker that takes it publishes the next.
            self._tickets.wake_renderers(model, queued=min(1, queued), workers=0)
        self._tickets.wake_delivery(due=self._deliveries.due())

    def tidy(self) -> None:
        """Remove objects that no record names, and what is past its retention."""
        self._workers.forget_dead()
        self._remove_litter()
        for account in cast(set[str], self._redis.smembers(self._prefix + "accounts")):
            self._deliveries.prune(account)
        if self._retention_s > 0:
            oldest_ms = (self._redis.time()[0] - self._retention_s) * 1000
            self._remove_old_jobs(oldest_ms)
            self._remove_old_uploads(oldest_ms)

    def _remove_litter(self) -> None:
        """Objects of attempts that did not win."""
        for job_id in cast(list[str], self._redis.srandmember(self._prefix + "litter", _TIDY_LIMIT)):
            job = self._records.read([job_id])[0]
            if job is not None and not job.status.is_terminal:
                continue
            wanted = {image.key for image in self._images.read(job.images if job else []).values()}
            found = self._storage.keys(f"outputs/{job_id}/")
            self._storage.delete(key for key in found if key not in wanted)
            self._redis.srem(self._prefix + "litter", job_id)

    def _remove_old_jobs(self, oldest_ms: float) -> None:
        old = self._redis.zrangebyscore(self._prefix + "retained", "-inf", oldest_ms, 0, _TIDY_LIMIT)
        for job_id, job in zip(old, self._records.read(cast(list[str], old)), strict=True):
            self._remove_job(cast(str, job_id), job)

    def _remove_job(self, job_id: str, job: Job | None) -> None:
        # Objects first: should this be cut short, the record remains and it is done again.
        self._storage.delete([*self._storage.keys(f"outputs/{job_id}/"), *self._storage.keys(f"inputs/{job_id}/")])
        self._forget(job_id, _GONE_S, *(job.images if job else []))

    def _remove_old_uploads(self, oldest_ms: float) -> None:
        name = self._prefix + "retained_uploads"
        ids = cast(list[str], self._redis.zrangebyscore(name, "-inf", oldest_ms, 0, _TIDY_LIMIT))
        found = self._images.read(ids)
        for image_id in ids:
            if image := found.get(image_id):
                self._storage.delete([image.key])
                self._images.remove(image)
                self._redis.set(f"{self._prefix}gone:{image_id}", image.account, ex=_GONE_S)
            else:
                self._redis.zrem(name, image_id)

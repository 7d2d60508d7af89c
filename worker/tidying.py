"""Clearing away what nothing names any more, and what is past its retention.

What lives for ever, because its size does not grow with the jobs: accounts and keys, webhook endpoints, the catalog's
counters. With a retention of 0, jobs, pictures, uploads and their records as well.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from redis import Redis

from shared.deliveries import Deliveries
from shared.images import Images
from shared.outputs import output_prefix
from shared.records import Records
from shared.redis_client import PREFIX, Script, now_ms
from shared.storage import Storage, StorageError
from shared.unclaimed import Unclaimed
from shared.workers import Workers
from worker.litter import Litter

_log = logging.getLogger(__name__)

#: How often it is done.
TIDY_EVERY_S = 60.0
#: Jobs or uploads removed before the next are looked up.
_PAGE = 200
#: The id of a removed job or image answers 410 for this long; afterwards 404.
GONE_S = 30 * 86400


class Tidier:
    def __init__(
        self, redis: Redis, *, deliveries: Deliveries, storage: Storage, retention_s: float, prefix: str = PREFIX
    ) -> None:
        self._redis = redis
        self._prefix = prefix
        self._deliveries = deliveries
        self._storage = storage
        self._retention_s = retention_s
        self._records = Records(redis, prefix)
        self._images = Images(redis, prefix)
        self._workers = Workers(redis, prefix)
        self._litter = Litter(redis, prefix)
        self._unclaimed = Unclaimed(redis, prefix)
        self._forget = Script(redis, "forget", prefix)

    def tidy(self) -> None:
        """One round of everything. Raises StorageError and RedisError; the next round goes on where this one ended."""
        self._workers.forget_dead()
        for account in cast(set[str], self._redis.smembers(self._prefix + "accounts")):
            self._deliveries.prune(account)
        # While it is away, each object below would cost its own wait.
        self._storage.ensure_bucket()
        self._litter.sweep(self._storage)
        self._sweep_unclaimed()
        if self._retention_s > 0:
            oldest_ms = now_ms(self._redis) - self._retention_s * 1000
            self._remove_older("retained", oldest_ms, self._remove_jobs)
            self._remove_older("retained_uploads", oldest_ms, self._remove_uploads)

    def _sweep_unclaimed(self) -> None:
        while True:
            keys = self._unclaimed.overdue(_PAGE)
            claimed = self._unclaimed.claimed(keys)
            settled = [key for key in keys if key in claimed or self._remove_objects(key)]
            self._unclaimed.forget(settled)
            if len(settled) < _PAGE:
                return

    def _remove_older(self, index: str, oldest_ms: float, remove: Callable[[Sequence[str]], int]) -> None:
        """Remove what the index holds from before `oldest_ms`, the oldest first, until a page does not go away."""
        while True:
            name = self._prefix + index
            ids = cast(list[str], self._redis.zrangebyscore(name, "-inf", oldest_ms, 0, _PAGE))
            if remove(ids) < _PAGE:
                return

    def _remove_jobs(self, job_ids: Sequence[str]) -> int:
        jobs = self._records.read(job_ids)
        images = self._images.read([id_ for job in jobs if job for id_ in job.images])
        removed = 0
        for job_id, job in zip(job_ids, jobs, strict=True):
            ids = job.images if job else []
            # What a release stored that laid its keys out otherwise is known to the records alone.
            recorded = [images[id_].key for id_ in ids if id_ in images]
            # Objects first: should this be cut short, the record remains and it is done again.
            if self._remove_objects(output_prefix(job_id), f"inputs/{job_id}/", recorded=recorded):
                self._forget(job_id, GONE_S, *ids)
                removed += 1
        return removed

    def _remove_uploads(self, image_ids: Sequence[str]) -> int:
        found = self._images.read(image_ids)
        removed = 0
        for image_id in image_ids:
            image = found.get(image_id)
            if image is None:
                self._redis.zrem(self._prefix + "retained_uploads", image_id)
            elif self._remove_objects(image.key):
                # Said first: between the two the id is still answered by the record.
                self._redis.set(f"{self._prefix}gone:{image_id}", image.account, ex=GONE_S)
                self._images.remove(image)
            else:
                continue
            removed += 1
        return removed

    def _remove_objects(self, *prefixes: str, recorded: Iterable[str] = ()) -> bool:
        """Whether they are gone. One object that S3 will not give up must not keep all the younger ones."""
        try:
            found = (key for prefix in prefixes for key in self._storage.keys(prefix))
            self._storage.delete({*found, *recorded})
        except StorageError as error:
            _log.warning("%s cannot be removed: %s", prefixes[0], error)
            return False
        return True

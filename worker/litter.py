"""Litter: objects in S3 that attempts left behind which did not win.

An object's key names its attempt, so a loser never overwrites a winner; it only leaves files. The scripts that end
jobs note every job that had more than one attempt. A worker that learns late that it lost notes the job again, after
its last write: the sweep may have been there before.
"""

from __future__ import annotations

from typing import cast

from redis import Redis

from shared.images import Images
from shared.outputs import output_prefix
from shared.records import Records
from shared.redis_client import PREFIX
from shared.storage import Storage

#: Jobs looked at in one sweep.
_LIMIT = 500


class Litter:
    def __init__(self, redis: Redis, prefix: str = PREFIX) -> None:
        self._redis = redis
        self._noted = prefix + "litter"
        #: Jobs being swept. Apart from the noted ones, so that neither a sweep that is cut short nor a note that
        #: comes in its middle is forgotten.
        self._open = prefix + "litter_open"
        self._records = Records(redis, prefix)
        self._images = Images(redis, prefix)

    def note(self, job_id: str) -> None:
        """Have the job's objects looked through."""
        self._redis.sadd(self._noted, job_id)

    def sweep(self, storage: Storage) -> None:
        """Remove the objects of noted jobs that no record names; unfinished jobs wait. Raises StorageError."""
        noted = cast(list[str], self._redis.srandmember(self._noted, _LIMIT))
        for job_id, job in zip(noted, self._records.read(noted), strict=True):
            if job is None or job.status.is_terminal:
                self._redis.smove(self._noted, self._open, job_id)
        for job_id in cast(list[str], self._redis.srandmember(self._open, _LIMIT)):
            job = self._records.read([job_id])[0]
            wanted = {image.key for image in self._images.read(job.images if job else []).values()}
            storage.delete(key for key in storage.keys(output_prefix(job_id)) if key not in wanted)
            self._redis.srem(self._open, job_id)

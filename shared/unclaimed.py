"""Objects in S3 that were stored before the record that names them.

Whoever stores such an object says so first. Should it die before the record is written, nothing would ever lead to the
object; so upkeep looks, a day later, whether the record came.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import cast

from redis import Redis

from shared.redis_client import PREFIX

#: No request lasts this long, nor does a batch wait this long between storing a line's images and accepting its job.
_CLAIMED_WITHIN_S = 86400.0
#: Which record names what lies in a folder: in `inputs/<job>/…`, `files/<file>` and `uploads/<image>.<format>`.
_RECORDS = {"inputs": "job", "files": "file", "uploads": "image"}


class Unclaimed:
    """Safe to share between threads."""

    def __init__(self, redis: Redis, prefix: str = PREFIX) -> None:
        self._redis = redis
        self._prefix = prefix
        self._noted = prefix + "unclaimed"

    def note(self, key: str) -> None:
        """Say that an object is about to be stored under `key`, or several under keys that begin with it."""
        self._redis.zadd(self._noted, {key: time.time()})

    def overdue(self, limit: int) -> list[str]:
        """Up to `limit` of the noted keys whose records should have come by now, the oldest first."""
        latest = time.time() - _CLAIMED_WITHIN_S
        return cast(list[str], self._redis.zrangebyscore(self._noted, "-inf", latest, 0, limit))

    def claimed(self, keys: Sequence[str]) -> set[str]:
        """Those of the noted keys whose records came."""
        pipeline = self._redis.pipeline(transaction=False)
        for key in keys:
            folder, name = key.split("/")[:2]
            pipeline.exists(f"{self._prefix}{_RECORDS[folder]}:{name.split('.')[0]}")
        return {key for key, exists in zip(keys, pipeline.execute(), strict=True) if exists}

    def forget(self, keys: Sequence[str]) -> None:
        """These were looked at."""
        if keys:
            self._redis.zrem(self._noted, *keys)

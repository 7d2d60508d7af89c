"""Finished and uploaded pictures: their records, and who may see them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Self, cast

from redis import Redis

from shared.errors import RendermillError
from shared.records import Records
from shared.redis_client import PREFIX


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One picture. `key` is its place in S3; `job_id`, `model` and `seed` are None for an uploaded one."""

    id: str
    account: str
    name: str
    key: str
    width: int
    height: int
    #: `jpeg`, `png` or `webp`.
    format: str
    #: Bytes.
    size: int
    #: Unix seconds.
    created_at: float
    seed: int | None = None
    model: str | None = None
    job_id: str | None = None

    @classmethod
    def from_record(cls, id_: str, text: str) -> Self:
        """The image of a record as Redis has it."""
        return cls(id=id_, **json.loads(text))

    def record(self) -> dict[str, Any]:
        """For JSON; the id is the key of the record."""
        # Not with `asdict`, which copies deeply: nothing in it is nested, and it is done for each picture.
        return {name: getattr(self, name) for name in _RECORDED}


_RECORDED = [field.name for field in fields(Image) if field.name != "id"]


@dataclass(frozen=True, slots=True)
class ImagePage:
    """Newest first; the cursors are image ids to go on `from`."""

    images: list[Image]
    previous: str | None
    next: str | None


class Images:
    def __init__(self, redis: Redis, prefix: str = PREFIX) -> None:
        self._redis = redis
        self._prefix = prefix
        self._records = Records(redis, prefix)

    def get(self, image_id: str, account: str) -> Image:
        """The image. Raises RendermillError `not_found`, also for another account's, and `gone` past its retention."""
        image = self.read([image_id]).get(image_id)
        if image is not None and image.account == account:
            return image
        self._records.refuse_if_gone(image_id, account)
        raise RendermillError("not_found", f"There is no image {image_id}.")

    def read(self, image_ids: Sequence[str]) -> dict[str, Image]:
        """The images that exist, by id."""
        if not image_ids:
            return {}
        texts = cast(list[str | None], self._redis.mget([f"{self._prefix}image:{id_}" for id_ in image_ids]))
        return {
            id_: Image.from_record(id_, text) for id_, text in zip(image_ids, texts, strict=True) if text is not None
        }

    def add(self, image: Image) -> None:
        """Record an uploaded image. (A job's pictures are recorded by the script that completes it.)"""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.set(f"{self._prefix}image:{image.id}", json.dumps(image.record(), ensure_ascii=False))
        seq = self._redis.incr(self._prefix + "seq")
        pipeline.zadd(f"{self._prefix}images:{image.account}", {image.id: seq})
        pipeline.zadd(self._prefix + "retained_uploads", {image.id: image.created_at * 1000})
        pipeline.execute()

    def page(self, account: str, *, take: int, start: str | None) -> ImagePage:
        """Up to `take` of the account's images, newest first, beginning with the image `start`.

        Raises RendermillError `bad_request` where `start` is not one of them.
        """
        index = f"{self._prefix}images:{account}"
        rank = 0
        if start is not None:
            found = self._redis.zrevrank(index, start)
            if found is None:
                raise RendermillError("bad_request", "'from' must be the id of one of your images.")
            rank = cast(int, found)
        ids = cast(list[str], self._redis.zrevrange(index, max(0, rank - take), rank + take))
        before = min(rank, take)
        images = self.read(ids[before : before + take])
        return ImagePage(
            [images[id_] for id_ in ids[before : before + take] if id_ in images],
            ids[0] if before else None,
            ids[before + take] if len(ids) > before + take else None,
        )

    def published(self, image_ids: Sequence[str]) -> set[str]:
        """Those of the ids that are public."""
        if not image_ids:
            return set()
        flags = cast(list[int], self._redis.smismember(self._prefix + "published", list(image_ids)))
        return {id_ for id_, flag in zip(image_ids, flags, strict=True) if flag}

    def publish(self, image: Image) -> None:
        self._redis.sadd(self._prefix + "published", image.id)

    def unpublish(self, image: Image) -> None:
        self._redis.srem(self._prefix + "published", image.id)

    def public(self, image_id: str) -> Image | None:
        """The image, where it is public."""
        return self.read([image_id]).get(image_id) if self.published([image_id]) else None

    def remove(self, image: Image) -> None:
        """Forget the image. The caller removes its object."""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.delete(f"{self._prefix}image:{image.id}")
        pipeline.zrem(f"{self._prefix}images:{image.account}", image.id)
        pipeline.srem(self._prefix + "published", image.id)
        pipeline.zrem(self._prefix + "retained_uploads", image.id)
        pipeline.execute()


def iso_time(unix_s: float) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

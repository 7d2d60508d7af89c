"""Pages of what an account has, newest first, by the sorted set that indexes it."""

from __future__ import annotations

from typing import cast

from redis import Redis

from shared.errors import RendermillError


def newest_ids(redis: Redis, index: str, *, limit: int, after: str | None, kind: str) -> tuple[list[str], bool]:
    """Up to `limit` ids of the index, the highest score first, after the id `after`; and whether there are more.

    Raises RendermillError `bad_request`, naming the `kind`, where `after` is not in the index.
    """
    start = 0
    if after is not None:
        rank = redis.zrevrank(index, after)
        if rank is None:
            raise RendermillError("bad_request", f"'after' must be the id of one of your {kind}.")
        start = cast(int, rank) + 1
    ids = cast(list[str], redis.zrevrange(index, start, start + limit))
    return ids[:limit], len(ids) > limit

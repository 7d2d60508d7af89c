"""What an account has used, by day and model; counted by the script that ends a job."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import cast

from redis import Redis

from shared.jobs import JobStatus
from shared.redis_client import PREFIX, now_ms

#: As long as `_lib.lua` keeps it.
DAYS_KEPT = 92
_EPOCH = date(1970, 1, 1)
_DAY_S = 86400


@dataclass(slots=True)
class DayOfModel:
    """What one model did for the account on one day (UTC, by the end of its jobs). `credits` are millionths."""

    day: date
    model: str
    jobs: dict[JobStatus, int] = field(default_factory=dict)
    images: int = 0
    credits: int = 0


def usage_of(redis: Redis, account: str, *, days: int, prefix: str = PREFIX) -> list[DayOfModel]:
    """The last `days` days, today among them, newest first; days and models without jobs are left out."""
    today = now_ms(redis) // 1000 // _DAY_S
    pipeline = redis.pipeline(transaction=False)
    numbers = range(today, today - days, -1)
    for number in numbers:
        pipeline.hgetall(f"{prefix}usage:{account}:{number}")
    found = []
    for number, counts in zip(numbers, cast(list[dict[str, str]], pipeline.execute()), strict=True):
        found += _by_model(_EPOCH + timedelta(days=number), counts)
    return found


def _by_model(day: date, counts: dict[str, str]) -> list[DayOfModel]:
    by_model: dict[str, dict[str, int]] = defaultdict(dict)
    for name, count in counts.items():
        kind, _, model = name.partition("/")
        by_model[model][kind] = int(count)
    return [
        DayOfModel(
            day=day,
            model=model,
            jobs={status: kinds[status] for status in JobStatus if status in kinds},
            images=kinds.get("images", 0),
            credits=kinds.get("credits", 0),
        )
        for model, kinds in sorted(by_model.items())
    ]

"""The job of every benchmark, as a request body and as the scheduler takes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redis import Redis

from shared.catalog import Catalog, load_catalog
from shared.ids import new_id
from shared.jobs import NewJob
from shared.redis_client import PREFIX
from shared.requests import resolve
from shared.scheduler import Scheduler
from shared.settings import Settings

MODEL = "ByteDance/SDXL-Lightning"
ACCOUNT = "bench"
#: A hundred characters, which is what people write.
PROMPT = "a red fox in fresh snow at dawn, soft light, shallow depth of field, film grain, highly detailed, 4k"
CATALOG: Catalog = load_catalog(Settings().catalog_path)


def body(number: int) -> dict[str, Any]:
    """A request body; like the lines of a batch, each has its own seed."""
    return {"model": MODEL, "prompt": PROMPT, "width": 1024, "height": 1024, "seed": number}


def new_job(asked: dict[str, Any], account: str = ACCOUNT) -> NewJob:
    """The job that a request body asks for."""
    request, warnings = resolve(CATALOG, asked)
    cost = request.cost(CATALOG.models[request.model])
    return NewJob(id=new_id("job"), account=account, request=request, cost=cost, warnings=tuple(warnings))


def new_jobs(numbers: Iterable[int], account: str = ACCOUNT) -> list[NewJob]:
    return [new_job(body(number), account) for number in numbers]


def new_scheduler(redis: Redis, prefix: str = PREFIX) -> Scheduler:
    """A scheduler as the farm sets it up by default."""
    defaults = Settings()
    return Scheduler(
        redis,
        lease_s=defaults.lease_s,
        max_attempts=defaults.max_attempts,
        retry_delay_s=defaults.retry_delay_s,
        prefix=prefix,
    )

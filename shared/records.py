"""Reading jobs: one, many, or a page of an account's."""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis

from shared.errors import RendermillError
from shared.jobs import Job, JobStatus
from shared.redis_client import PREFIX

#: A job's number in the order of acceptance, within what a sorted set's score holds exactly.
_CURSOR = re.compile(r"[0-9]{1,15}")
#: Jobs looked at in one round trip.
_STEP = 500


@dataclass(frozen=True, slots=True)
class JobPage:
    """Newest first. `after` is the cursor of the next page, None on the last."""

    jobs: list[Job]
    after: str | None


class Records:
    """The jobs as they stand."""

    def __init__(self, redis: Redis, prefix: str = PREFIX) -> None:
        self._redis = redis
        self._prefix = prefix

    def get(self, job_id: str, account: str | None = None) -> Job:
        """The job. Raises RendermillError `not_found`, also for another account's, and `gone` past its retention."""
        job = self.read([job_id])[0]
        if job is not None and account in (None, job.account):
            return job
        self.refuse_if_gone(job_id, account)
        raise RendermillError("not_found", f"There is no job {job_id}.")

    def refuse_if_gone(self, id_: str, account: str | None) -> None:
        """Raise RendermillError `gone` for the id of a job or image of the account that is past its retention."""
        owner = self._redis.get(f"{self._prefix}gone:{id_}")
        if owner is not None and account in (None, owner):
            raise RendermillError("gone", f"{id_} is past its retention and was removed.")

    def read(self, job_ids: Sequence[str]) -> list[Job | None]:
        """The jobs of these ids, None for each that does not exist."""
        pipeline = self._redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipeline.hgetall(f"{self._prefix}job:{job_id}")
            pipeline.mget(f"{self._prefix}spec:{job_id}", f"{self._prefix}result:{job_id}")
        answers = pipeline.execute()
        return [
            job_of(job_id, state, *texts)
            for job_id, state, texts in zip(job_ids, answers[::2], answers[1::2], strict=True)
        ]

    def page(self, account: str, *, statuses: Iterable[JobStatus], limit: int, after: str | None) -> JobPage:
        """Up to `limit` of the account's jobs with one of the statuses, those accepted before the cursor `after`.

        Raises RendermillError `bad_request` for a cursor that no page gave.
        """
        below = "+inf" if after is None else f"({cursor_number(after)}"
        # A status is an index of its own; the newest of all of them together make the page. In one transaction, for a
        # job that changed its status between two reads could otherwise be missed.
        pipeline = self._redis.pipeline(transaction=True)
        for status in statuses:
            name = f"{self._prefix}jobs:{account}:{status}"
            pipeline.zrevrangebyscore(name, below, "-inf", 0, limit + 1, withscores=True)
        found = {job_id: int(seq) for rows in pipeline.execute() for job_id, seq in rows}
        newest = heapq.nlargest(limit + 1, found.items(), key=lambda row: row[1])
        jobs = [job for job in self.read([job_id for job_id, _ in newest[:limit]]) if job is not None]
        return JobPage(jobs, str(newest[limit - 1][1]) if len(newest) > limit else None)

    def page_of(
        self, id_of: Callable[[int], str], last: int, *, statuses: Iterable[JobStatus], limit: int, after: str | None
    ) -> JobPage:
        """Up to `limit` of the jobs `id_of(last)` down to `id_of(1)` that exist and have one of the statuses.

        The cursor is the number of the last one looked at. Raises RendermillError `bad_request` for another.
        """
        wanted = set(statuses)
        number = last if after is None else min(last, cursor_number(after) - 1)
        found: list[tuple[int, str]] = []
        while number > 0 and len(found) <= limit:
            step = range(number, max(0, number - _STEP), -1)
            ids = [id_of(one) for one in step]
            pipeline = self._redis.pipeline(transaction=False)
            for id_ in ids:
                pipeline.hget(f"{self._prefix}job:{id_}", "status")
            rows = zip(step, ids, pipeline.execute(), strict=True)
            found += [(one, id_) for one, id_, status in rows if status in wanted]
            number -= _STEP
        jobs = [job for job in self.read([id_ for _, id_ in found[:limit]]) if job is not None]
        return JobPage(jobs, str(found[limit - 1][0]) if len(found) > limit else None)


def cursor_number(text: str) -> int:
    """The number that a cursor is. Raises RendermillError `bad_request` for what no page gave."""
    if not _CURSOR.fullmatch(text):
        raise RendermillError("bad_request", "'after' must be the cursor that the page before gave.")
    return int(text)


def job_of(job_id: str, state: Mapping[str, str], spec: str | None, result: str | None) -> Job | None:
    """The job of a `job:`, a `spec:` and a `result:` record as Redis has them; None where there is none."""
    if not state or not spec:
        return None
    return Job.from_record(job_id, state, json.loads(spec), cast(dict[str, Any], json.loads(result or "{}")))

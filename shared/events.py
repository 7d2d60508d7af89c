"""Following jobs: the stream of a job's changes, and being woken when one happens.

Each change is an entry of the stream `events:<job>` and its job's id on the channel `wake`, both written by the
script that made the change. The stream is the truth and can be read again from any entry; the channel only saves
waiting: a message lost with a connection costs at most `POLL_S`. With the job's end its stream is gone: the last event
is made of the record, and is the only one that a finished job has.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from redis import Redis
from redis.exceptions import RedisError

from shared.jobs import JobStatus, Stage
from shared.redis_client import PREFIX

_log = logging.getLogger(__name__)

#: How often a follower looks for itself.
POLL_S = 2.0
_RECONNECT_S = 0.5
#: Milliseconds and a counter, as Redis makes the ids of stream entries, within what it reads.
_EVENT_ID = re.compile(r"[0-9]{1,18}(-[0-9]{1,18})?")
#: The counter in the id of a job's last event: beyond those of all changes in the same millisecond.
_LAST = 999_999


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One change of a job. `id` orders the job's events and is what `Last-Event-ID` repeats."""

    id: str
    status: JobStatus
    stage: Stage
    progress: float
    attempt: int


class Events:
    """Reads and awaits the changes of jobs; one connection listens for the whole process, once anybody waits."""

    def __init__(self, redis: Redis, prefix: str = PREFIX) -> None:
        self._redis = redis
        self._prefix = prefix
        self._lock = threading.Lock()
        self._waiters: defaultdict[str, set[threading.Event]] = defaultdict(set)
        self._listener: threading.Thread | None = None
        self._closed = threading.Event()

    def close(self) -> None:
        """End the listening, before the Redis client is closed."""
        self._closed.set()
        if self._listener is not None:
            self._listener.join()

    def since(self, job_id: str, last_id: str) -> list[JobEvent]:
        """The job's events after the event `last_id` ("0" for all that are kept). Raises ValueError for no id."""
        if not _EVENT_ID.fullmatch(last_id):
            raise ValueError(f"{last_id!r} is no event id")
        # In one step: between the two, the job could end.
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.xrange(f"{self._prefix}events:{job_id}", f"({last_id}", "+")
        pipeline.hmget(f"{self._prefix}job:{job_id}", "status", "progress", "attempt", "finished")
        rows, (status, progress, attempt, finished) = pipeline.execute()
        if finished is not None:
            end = JobEvent(
                f"{finished}-{_LAST}", JobStatus(status), Stage.DONE, float(progress or 0), int(attempt or 0)
            )
            return [end] if end.id != last_id else []
        return [
            JobEvent(id_, JobStatus(row["status"]), Stage(row["stage"]), float(row["progress"]), int(row["attempt"]))
            for id_, row in rows
        ]

    def follow(self, job_id: str, last_id: str, timeout_s: float) -> Iterator[JobEvent | None]:
        """The job's events after `last_id` as they happen, until the job is finished or `timeout_s` from now.

        None is given whenever nothing happened for a while, so that the reader can show it is alive. Raises ValueError
        where `last_id` is no event id.
        """
        deadline = time.monotonic() + timeout_s
        with self.woken(job_id) as woken:
            while True:
                woken.clear()
                # Asked before the events are read, so that the last of them is among those.
                finished = self._is_finished(job_id) is not False
                for event in self.since(job_id, last_id):
                    last_id = event.id
                    yield event
                if finished:
                    return
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                if not woken.wait(min(left, POLL_S)):
                    yield None

    def wait_until_finished(self, job_id: str, timeout_s: float) -> bool:
        """Wait until the job is terminal; False where it was not in time, or where there is no such job."""
        deadline = time.monotonic() + timeout_s
        with self.woken(job_id) as woken:
            while True:
                woken.clear()
                finished = self._is_finished(job_id)
                if finished is not False:
                    return bool(finished)
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                woken.wait(min(left, POLL_S))

    def _is_finished(self, job_id: str) -> bool | None:
        """Whether the job is terminal; None where there is no such job."""
        status = cast(str | None, self._redis.hget(f"{self._prefix}job:{job_id}", "status"))
        return None if status is None else JobStatus(status).is_terminal

    @contextmanager
    def woken(self, job_id: str) -> Iterator[threading.Event]:
        """An event that is set whenever the job, or batch, changes."""
        woken = threading.Event()
        with self._lock:
            self._waiters[job_id].add(woken)
            if self._listener is None or not self._listener.is_alive():
                self._listener = threading.Thread(target=self._listen, name="events", daemon=True)
                self._listener.start()
        try:
            yield woken
        finally:
            with self._lock:
                self._waiters[job_id].discard(woken)
                if not self._waiters[job_id]:
                    del self._waiters[job_id]

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                with self._redis.pubsub(ignore_subscribe_messages=True) as channel:  # type: ignore[no-untyped-call]
                    channel.subscribe(self._prefix + "wake")
                    while not self._closed.is_set():
                        message = channel.get_message(timeout=POLL_S)
                        if message is not None:
                            self._wake(message["data"])
            except (RedisError, OSError) as error:
                _log.warning("lost the event channel, trying again: %s", error)
                time.sleep(_RECONNECT_S)

    def _wake(self, job_id: str) -> None:
        with self._lock:
            for woken in self._waiters.get(job_id, ()):
                woken.set()

"""Tickets: Celery messages that say there is work, and nothing else.

A ticket carries no job; the worker that takes it claims whatever should come next. So a lost, doubled or late
ticket costs nothing but time, and a few of them are enough for any number of jobs. The length of the broker's list
is the count of waiting tickets: it cannot drift from the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis import Redis

RENDER_TASK = "render"
BATCH_TASK = "batch"
BATCH_QUEUE = "batches"

#: One ticket a live worker, and this many more, so that a worker finds its next ticket when it looks for it.
_SPARE_TICKETS = 1
#: However many workers there are: each render that leaves work behind publishes the next ticket anyway.
_MAX_TICKETS = 64

#: Tickets that one claim publishes at most: twice as many workers with each round are all of them soon.
_PASSED_ON = 2

#: What producers and workers alike tell Celery. Tickets are acknowledged when they are taken; results do not exist.
CELERY_SETTINGS: dict[str, Any] = {
    "task_ignore_result": True,
    "task_store_errors_even_if_ignored": False,
    "task_serializer": "json",
    "accept_content": ["json"],
    "task_acks_late": False,
    "task_create_missing_queues": True,
    "worker_prefetch_multiplier": 1,
    "broker_connection_retry_on_startup": True,
    # A broker that is away is waited for, however long.
    "broker_connection_max_retries": None,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_transport_options": {
        # Tickets are acknowledged at once, so nothing is ever restored after this long; it only must not be short.
        "visibility_timeout": 3600,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
    },
}


#: Before a model's id, the queue of its tickets.
RENDER_QUEUE = "render."


def render_queue(model_id: str) -> str:
    """The Celery queue of a model's tickets."""
    return RENDER_QUEUE + model_id


class Tickets:
    """Publishes tickets, and keeps their number small.

    `send(task, queue)` publishes one Celery message; the front door and the workers each bring their own. Of
    several that count at the same moment each may publish what is missing: without a lock, for a ticket too many
    costs less than a thread that waits for another one's broken connection.
    """

    def __init__(self, redis: Redis, send: Callable[[str, str], None]) -> None:
        self._redis = redis
        self._send = send

    def wake_renderers(self, model_id: str, *, queued: int, workers: int, lying: int | None = None) -> int:
        """See that tickets wait for the model, as many as its work and workers need; how many were published.

        Who knows how many lie there says so with `lying`, and spares the broker the question.
        """
        return self._top_up(RENDER_TASK, render_queue(model_id), _wanted(queued, workers), lying)

    def pass_on(self, model_id: str, *, queued: int, workers: int, lying: int) -> int:
        """The same for a worker that leaves work behind, where `lying` tickets wait already: some of those missing.

        Each worker that is woken wakes others in turn. Were each to publish all, those that start together would
        publish thousands.
        """
        missing = _wanted(queued, workers) - lying
        return self._top_up(RENDER_TASK, render_queue(model_id), lying + min(missing, _PASSED_ON), lying)

    @staticmethod
    def suffice(*, queued: int, lying: int) -> bool:
        """Whether `lying` tickets are enough for so many jobs, however many workers there are."""
        return lying >= min(queued, _MAX_TICKETS)

    def wake_batches(self, *, due: int) -> int:
        """See that tickets wait for batches, as many as are due; how many were published."""
        return self._top_up(BATCH_TASK, BATCH_QUEUE, min(due, _MAX_TICKETS))

    def _top_up(self, task: str, queue: str, wanted: int, lying: int | None = None) -> int:
        missing = max(0, wanted - (self._redis.llen(queue) if lying is None else lying))
        for _ in range(missing):
            self._send(task, queue)
        return missing


def _wanted(queued: int, workers: int) -> int:
    return min(queued, workers + _SPARE_TICKETS, _MAX_TICKETS)

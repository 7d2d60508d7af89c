"""Publishing tickets from the front door: a Celery application that has no tasks and never works."""

from __future__ import annotations

from collections.abc import Callable

from celery import Celery

from shared.tickets import CELERY_SETTINGS


def ticket_producer(redis_url: str) -> Callable[[str, str], None]:
    """A function that publishes one ticket: `send(task, queue)`. Safe to share between threads."""
    app = Celery("rendermill", broker=redis_url, set_as_current=False)
    app.conf.update(CELERY_SETTINGS)

    def send(task: str, queue: str) -> None:
        # A ticket that cannot be published now is not worth a client's time: upkeep publishes another.
        app.send_task(task, queue=queue, ignore_result=True, retry=False)

    return send

"""The Celery application: two tasks, both tickets, which carry no job.

A ticket is acknowledged when it is taken. Whatever happens to it afterwards, the job records and their leases are
the truth, and upkeep publishes another where work waits.
"""

from __future__ import annotations

from collections.abc import Callable

from celery import Celery

from shared.settings import settings
from shared.tickets import BATCH_TASK, CELERY_SETTINGS, RENDER_TASK

app = Celery("rendermill", broker=settings().redis_url)
app.conf.update(
    CELERY_SETTINGS,
    worker_hijack_root_logger=False,
    # Nobody commands workers through Celery, and each that is killed would leave its mailbox's name in Redis for ever.
    worker_enable_remote_control=False,
)

#: What this process does with a render ticket and with a batch ticket. `worker.roles` sets what it is for before Celery
#: takes the first ticket.
on_render_ticket: Callable[[], None] | None = None
on_batch_ticket: Callable[[], None] | None = None


@app.task(name=RENDER_TASK)  # type: ignore[untyped-decorator]
def render() -> None:
    """Render what waits for this worker's models."""
    assert on_render_ticket is not None, "only `python -m worker render` takes render tickets"
    on_render_ticket()


@app.task(name=BATCH_TASK)  # type: ignore[untyped-decorator]
def batch() -> None:
    """Work on the batches that are due."""
    assert on_batch_ticket is not None, "only `python -m worker upkeep` takes batch tickets"
    on_batch_ticket()


def send_ticket(task: str, queue: str) -> None:
    """Publish one ticket."""
    app.send_task(task, queue=queue, ignore_result=True)

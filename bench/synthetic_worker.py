"""A render worker without a device: each ticket claims a batch, and every job of it is complete at once.

`python -m bench.synthetic_worker URL` runs it.
"""

from __future__ import annotations

import sys

from celery import Celery

from bench.celery_peer import run_worker
from bench.jobs import CATALOG, MODEL, new_scheduler
from shared.redis_client import connect
from shared.tickets import CELERY_SETTINGS, RENDER_TASK, render_queue
from shared.waking import build_waker


def application(url: str) -> Celery:
    """The Celery application whose one task renders nothing."""
    app = Celery("synthetic", broker=url, set_as_current=False)
    app.conf.update(CELERY_SETTINGS)
    redis = connect(url)
    scheduler = new_scheduler(redis)
    waker = build_waker(redis, lambda task, queue: app.send_task(task, queue=queue))
    batch_limit = CATALOG.models[MODEL].batch_limit

    @app.task(name=RENDER_TASK, shared=False)  # type: ignore[untyped-decorator]
    def render() -> None:
        for lease in scheduler.claim(MODEL, "synthetic", max_images=batch_limit).leases:
            if aftermath := scheduler.complete(lease, images={}, result={"images": []}, render_s=None):
                waker.after_job(aftermath)

    return app


if __name__ == "__main__":
    run_worker(application(sys.argv[1]), [render_queue(MODEL)])

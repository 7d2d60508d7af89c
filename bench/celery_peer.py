"""The peer: a plain Celery application on the same broker, as its documentation shows one.

`python -m bench.celery_peer URL` runs its worker.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from celery import Celery

#: How every Celery worker of a benchmark runs: the way the farm runs its own.
WORKER_OPTIONS = ("--pool=threads", "--concurrency=3", "--without-gossip", "--without-mingle", "--without-heartbeat")
TASK = "generate"


def application(url: str) -> Celery:
    """The application, with Celery's defaults and a result backend."""
    app = Celery("peer", broker=url, backend=url, set_as_current=False)
    app.conf.broker_connection_retry_on_startup = True

    @app.task(name=TASK, shared=False)  # type: ignore[untyped-decorator]
    def generate(**body: Any) -> dict[str, Any]:
        return {"images": [], "seed": body["seed"]}

    return app


def run_worker(app: Celery, queues: Sequence[str]) -> None:
    """Work off these queues until told to stop."""
    app.worker_main(["worker", f"--queues={','.join(queues)}", *WORKER_OPTIONS, "--loglevel=WARNING"])


if __name__ == "__main__":
    run_worker(application(sys.argv[1]), ["celery"])

"""The peer: a plain Celery application on the same broker, as its documentation shows one.

`python -m bench.celery_peer URL` runs its worker.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery

from bench.jobs import body
from bench.processes import Broker

#: How every Celery worker of a benchmark runs: the way the farm runs its own.
WORKER_OPTIONS = ("--pool=threads", "--concurrency=3", "--without-gossip", "--without-mingle", "--without-heartbeat")
TASK = "generate"
#: What the loop of `apply_async_rate` is called in the table.
APPLY_ASYNC = "Celery apply_async"


def application(url: str) -> Celery:
    """The application, with Celery's defaults and a result backend."""
    app = Celery("peer", broker=url, backend=url, set_as_current=False)
    app.conf.broker_connection_retry_on_startup = True

    @app.task(name=TASK, shared=False)  # type: ignore[untyped-decorator]
    def generate(**body: Any) -> dict[str, Any]:
        return {"images": [], "seed": body["seed"]}

    return app


def apply_async_rate(server: Broker, measure_s: float, clock: Callable[[], float]) -> float:
    """Messages a second of a loop that does everything to be fast: one connection, one producer, no results."""
    server.peer_redis.flushdb()
    task = application(server.peer_url).tasks[TASK]
    with task.app.connection_for_write() as connection, task.app.amqp.Producer(connection) as producer:
        task.apply_async(kwargs=body(0), producer=producer, ignore_result=True)  # connects
        sent = 0
        deadline = time.perf_counter() + measure_s
        started = clock()
        while time.perf_counter() < deadline:
            task.apply_async(kwargs=body(sent), producer=producer, ignore_result=True)
            sent += 1
        return sent / (clock() - started)


def run_worker(app: Celery, queues: Sequence[str]) -> None:
    """Work off these queues until told to stop."""
    app.worker_main(["worker", f"--queues={','.join(queues)}", *WORKER_OPTIONS, "--loglevel=WARNING"])


if __name__ == "__main__":
    run_worker(application(sys.argv[1]), ["celery"])

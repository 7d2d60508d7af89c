"""What a job costs beside its rendering, when nothing else is to do: from its submission until its end is known.

The peer is a Celery task and its result, on the same broker, with a worker that runs the same way.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from api.ticket_producer import ticket_producer
from bench.celery_peer import TASK, application
from bench.front_doors import rendermill_api
from bench.http_load import HttpClient, UnexpectedAnswer
from bench.jobs import ACCOUNT, MODEL, body, new_job, new_scheduler
from bench.measuring import Row, Target, in_turn, median_ms, seconds
from bench.processes import Broker, broker, python, running
from bench.sizes import Sizes
from shared.events import Events
from shared.tickets import Tickets

#: Far more than a job takes, even the first, which finds the workers still starting.
_WAIT_S = 60
_PEER = "Celery task and result"


def run(sizes: Sizes, scratch: Path) -> list[Row]:
    with (
        broker(scratch) as server,
        running(python("synthetic-worker", "-m", "bench.synthetic_worker", server.url), {}, scratch),
        running(python("celery-worker", "-m", "bench.celery_peer", server.peer_url), {}, scratch),
        rendermill_api(server, scratch) as (port, key),
        closing(_waiting_client(port, key)) as client,
    ):
        in_process, over_http, peer = _in_process(server), _over_http(client), _task(server)

        def beside_peer(job: Callable[[], object]) -> Any:
            for first in (job, peer):
                first()  # finds its worker started and its connections made
            return in_turn(
                sizes.rounds,
                lambda: median_ms(sizes.calls, lambda: seconds(job)),
                lambda: median_ms(sizes.calls, lambda: seconds(peer)),
            )

        return [
            Row(
                "one job at no load, POST to answer",
                "ms",
                _PEER,
                beside_peer(over_http),
                Target(3, at_least=False),
            ),
            Row("the same without HTTP", "ms", _PEER, beside_peer(in_process)),
        ]


def _waiting_client(port: int, key: str) -> HttpClient:
    headers = {"Authorization": f"Bearer {key}", "Prefer": f"wait={_WAIT_S}"}
    return HttpClient(port, "/v1/jobs", body(1), headers)


def _over_http(client: HttpClient) -> Callable[[], None]:
    def job() -> None:
        status = json.loads(client.post(expected=201))["status"]
        if status != "succeeded":
            raise UnexpectedAnswer(f"the job is {status}")

    return job


def _in_process(server: Broker) -> Callable[[], None]:
    scheduler, events = new_scheduler(server.redis), Events(server.redis)
    tickets = Tickets(server.redis, ticket_producer(server.url))

    def job() -> None:
        new = new_job(body(1))
        scheduler.enqueue(ACCOUNT, [new])
        tickets.wake_renderers(MODEL, queued=1, workers=1)
        if not events.wait_until_finished(new.id, _WAIT_S):
            raise TimeoutError(f"the job did not end in {_WAIT_S} s")

    return job


def _task(server: Broker) -> Callable[[], None]:
    task = application(server.peer_url).tasks[TASK]

    def run_task() -> None:
        task.apply_async(kwargs=body(1)).get(timeout=_WAIT_S)

    return run_task

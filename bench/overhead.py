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
from bench.webhook_receiver import Message, Receiver, receiver, verify
from farm import parts
from shared.accounts import Accounts
from shared.events import Events
from shared.settings import PREFIX
from shared.tickets import Tickets

#: Far more than a job takes, even the first, which finds the workers still starting.
_WAIT_S = 60
#: How long upkeep may take to stop.
_STOP_S = 10
_PEER = "Celery task and result"


def run(sizes: Sizes, scratch: Path) -> list[Row]:
    with (
        broker(scratch) as server,
        running(python("synthetic-worker", "-m", "bench.synthetic_worker", server.url), {}, scratch),
        running(python("celery-worker", "-m", "bench.celery_peer", server.peer_url), {}, scratch),
        running(parts.worker("upkeep", _STOP_S), _upkeep_settings(server), scratch),
        rendermill_api(server, scratch) as (port, key),
        closing(_client(port, key, body(1), {"Prefer": f"wait={_WAIT_S}"})) as waiting,
        receiver() as hooks,
        closing(Events(server.redis)) as events,
        closing(_client(port, key, body(1) | {"webhook_url": hooks.url}, {})) as hooked,
    ):
        in_process, over_http, peer = _in_process(server, events), _over_http(waiting), _task(server)
        secret = Accounts(server.redis).webhook_secret(ACCOUNT)
        to_webhook = _to_webhook(hooked, hooks)
        verify(to_webhook(), secret)

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
            Row(
                "one job at no load, POST to signed webhook",
                "ms",
                _PEER,
                beside_peer(to_webhook),
                Target(3, at_least=False),
            ),
        ]


def _client(port: int, key: str, job: dict[str, Any], headers: dict[str, str]) -> HttpClient:
    return HttpClient(port, "/v1/jobs", job, {"Authorization": f"Bearer {key}", **headers})


def _upkeep_settings(server: Broker) -> dict[str, str]:
    return {f"{PREFIX}REDIS_URL": server.url, f"{PREFIX}EGRESS_ALLOW": "127.0.0.0/8", f"{PREFIX}LOG_LEVEL": "ERROR"}


def _to_webhook(client: HttpClient, hooks: Receiver) -> Callable[[], Message]:
    def job() -> Message:
        client.post(expected=202)
        return hooks.wait(_WAIT_S)

    return job


def _over_http(client: HttpClient) -> Callable[[], None]:
    def job() -> None:
        status = json.loads(client.post(expected=201))["status"]
        if status != "succeeded":
            raise UnexpectedAnswer(f"the job is {status}")

    return job


def _in_process(server: Broker, events: Events) -> Callable[[], None]:
    scheduler = new_scheduler(server.redis)
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

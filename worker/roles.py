"""The two kinds of worker process, and how each is put together.

`render` serves one device; `upkeep` sends webhooks and keeps the farm true. All that a ticket needs is built before
Celery takes the first one.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence

from celery.signals import worker_shutting_down

from shared import egress
from shared.accounts import Accounts
from shared.catalog import catalog
from shared.deliveries import Deliveries
from shared.records import Records
from shared.redis_client import connect
from shared.scheduler import Scheduler
from shared.settings import Settings, settings, split_list
from shared.storage import Storage
from shared.tickets import WEBHOOK_QUEUE, Tickets, render_queue
from shared.views import Views
from shared.workers import Worker, WorkerCount, Workers
from worker import app as celery_app
from worker import metrics
from worker.heartbeat import Watchdog, start_heartbeat
from worker.leases import LeaseKeeper
from worker.render import Renderer
from worker.upkeep import Upkeep
from worker.webhooks import WebhookSender

#: One ticket renders, one encodes and uploads, one waits at the device so that it never idles between batches.
_RENDER_TICKETS = 3
#: Webhooks wait for their receivers, so many go out side by side.
_DELIVER_TICKETS = 16


def run_render() -> None:
    """Serve one device until told to stop."""
    # Loads torch, which the machines that only do upkeep do not have.
    from worker.engine import Engine

    config = settings()
    metrics.serve(config)
    redis = connect(config.redis_url)
    workers = Workers(redis)
    served = [catalog().find(name).id for name in split_list(config.models)] or list(catalog().models)
    worker_id = f"{socket.gethostname()}-{os.getpid()}"
    engine = Engine(catalog(), config)
    scheduler = _scheduler(config)
    renderer = Renderer(
        worker_id,
        engine=engine,
        catalog=catalog(),
        scheduler=scheduler,
        keeper=LeaseKeeper(_scheduler(config), config.lease_s),
        storage=Storage(config),
        tickets=Tickets(redis, celery_app.send_ticket),
        workers=WorkerCount(workers),
    )
    celery_app.on_render_ticket = renderer.work
    watchdog = Watchdog(config.watchdog_s)
    preloaded = threading.Event()

    def state() -> str:
        if not preloaded.is_set():
            return "starting"
        if renderer.draining:
            return "draining"
        return "rendering" if renderer.is_busy else "idle"

    def beat() -> None:
        workers.beat(
            Worker(
                id=worker_id,
                models=served,
                device=engine.device_name,
                state=state(),
                resident=engine.resident,
            )
        )
        queued = scheduler.queued()
        watchdog.look(idle=state() == "idle", work_waits=any(queued.get(model_id) for model_id in served))

    def drain(**_: object) -> None:
        renderer.draining = True

    start_heartbeat(beat)
    for name in split_list(config.preload):
        engine.load(catalog().find(name).id)
    preloaded.set()
    worker_shutting_down.connect(drain)
    _run_celery(f"render-{worker_id}", [render_queue(model_id) for model_id in served], _RENDER_TICKETS)
    workers.leave(worker_id)


def run_upkeep() -> None:
    """Send webhooks and keep the farm true until told to stop."""
    config = settings()
    metrics.serve(config)
    redis = connect(config.redis_url)
    scheduler = _scheduler(config)
    deliveries = Deliveries(redis)
    sender = WebhookSender(
        deliveries=deliveries,
        records=Records(redis),
        accounts=Accounts(redis),
        views=Views(redis, scheduler, config.public_url),
        http=egress.client(egress.allowed_networks(config), config.webhook_timeout_s),
        timeout_s=config.webhook_timeout_s,
        retries_s=config.webhook_retries,
    )
    celery_app.on_delivery_ticket = sender.send_due
    upkeep = Upkeep(
        redis,
        scheduler=scheduler,
        tickets=Tickets(redis, celery_app.send_ticket),
        deliveries=deliveries,
        storage=Storage(config),
        retention_s=config.retention_s,
    )
    threading.Thread(target=upkeep.run, name="upkeep", daemon=True).start()
    start_heartbeat(_nothing)
    _run_celery(f"upkeep-{socket.gethostname()}-{os.getpid()}", [WEBHOOK_QUEUE], _DELIVER_TICKETS)


def _scheduler(config: Settings) -> Scheduler:
    """A scheduler with a connection pool of its own."""
    return Scheduler(
        connect(config.redis_url),
        lease_s=config.lease_s,
        max_attempts=config.max_attempts,
        retry_delay_s=config.retry_delay_s,
    )


def _nothing() -> None:
    """The beat of a worker that is not counted: its tick file alone says that it lives."""


def _run_celery(name: str, queues: Sequence[str], tickets: int) -> None:
    """Take tickets from these queues until the process is told to stop.

    Without gossip, mingle and Celery's own heartbeat: workers know of each other through Redis.
    """
    celery_app.app.worker_main(
        [
            "worker",
            f"--hostname={name}@%h",
            f"--queues={','.join(queues)}",
            "--pool=threads",
            f"--concurrency={tickets}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            f"--loglevel={settings().log_level}",
        ]
    )


ROLES: dict[str, Callable[[], None]] = {"render": run_render, "upkeep": run_upkeep}

"""The two kinds of worker process, and how each is put together.

`render` serves one device; `upkeep` sends webhooks, works on batches and keeps the farm true. All that a ticket
needs is built before Celery takes the first one.

Told to stop (SIGTERM), either finishes what it has in hand and begins nothing new; killed, it loses nothing but time.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence

from celery.signals import worker_ready, worker_shutting_down
from redis import Redis
from redis.exceptions import RedisError

from shared import egress
from shared.accounts import Accounts
from shared.batches import Batches
from shared.catalog import catalog
from shared.deliveries import Deliveries
from shared.errors import JobFailure
from shared.files import Files
from shared.outbox import Outbox
from shared.redis_client import connect
from shared.scheduler import Scheduler
from shared.settings import Settings, settings, split_list
from shared.storage import Storage
from shared.tickets import BATCH_QUEUE, Tickets, render_queue
from shared.views import Views
from shared.waking import build_waker
from shared.workers import Worker, Workers
from worker import app as celery_app
from worker import metrics
from worker.batching import batch_worker
from worker.engines import engine_for
from worker.file_tidying import FileTidier
from worker.heartbeat import Heartbeat, Watchdog
from worker.lanes import Lanes
from worker.leases import LeaseKeeper
from worker.litter import Litter
from worker.outcomes import Outcomes
from worker.render import Renderer
from worker.storing import Store
from worker.tidying import TIDY_EVERY_S, Tidier
from worker.turns import Turns
from worker.upkeep import SWEEP_EVERY_S, Duty, Sweeper
from worker.webhooks import WebhookSender

_log = logging.getLogger(__name__)

#: One ticket renders, one prepares the batch behind it, one encodes and uploads: the device never waits for either.
_RENDER_TICKETS = 3
#: Webhooks wait for their receivers, so many go out side by side; of these, so many to accounts that were slow lately.
_SENDERS = 16
_SLOW_DELIVERIES = 8
#: Batches that one process works on at the same time: Python runs one of them at a time anyway, and a second one keeps
#: small ones from waiting for a large one's storage.
_BATCH_TICKETS = 2


class RenderRole:
    """Serves one device until told to stop."""

    def __init__(self, config: Settings) -> None:
        redis = connect(config.redis_url)
        self._id = f"{socket.gethostname()}-{os.getpid()}"
        self._served = [catalog().find(name).id for name in split_list(config.models)] or list(catalog().models)
        self._preload = [catalog().find(name).id for name in split_list(config.preload)]
        #: The models are loaded; then, Celery is connected as well.
        self._preloaded = False
        self._takes_tickets = False
        self._workers = Workers(redis)
        models = [catalog().models[id_] for id_ in self._served]
        self._engine = engine_for(models, catalog(), config)
        # A beat asks by one connection: where all of them are half open, it waits for one answer in vain, not for two.
        self._queues = _scheduler(config, redis)
        scheduler = _scheduler(config, connect(config.redis_url))
        waker = build_waker(redis, celery_app.send_ticket)
        self._keeper = LeaseKeeper(_scheduler(config, connect(config.redis_url)), waker)
        outcomes = Outcomes(scheduler, self._keeper, Litter(redis), waker)
        self._renderer = Renderer(
            self._id,
            engine=self._engine,
            turns=Turns(models, lambda: self._engine.resident, config.affinity_s),
            scheduler=scheduler,
            keeper=self._keeper,
            outcomes=outcomes,
            store=Store(Storage(config), outcomes),
            waker=waker,
            drain_s=config.drain_s,
        )
        self._watchdog = Watchdog(config.watchdog_s)

    def run(self) -> None:
        heartbeat = Heartbeat(self._beat)
        heartbeat.start()
        self._keeper.start()
        self._load_models()
        celery_app.on_render_ticket = self._renderer.work
        queues = [render_queue(model_id) for model_id in self._served]
        worker_ready.connect(self._ready, weak=False)
        _run_celery(f"render-{self._id}", queues, _RENDER_TICKETS, self._drain)
        heartbeat.stop()
        try:
            self._workers.leave(self._id)
        except RedisError as error:
            _log.warning("left without a word: %s", error)

    def _load_models(self) -> None:
        """Load what is wanted before the first ticket. What cannot be loaded fails its own jobs, not the others'."""
        for model_id in self._preload:
            try:
                self._engine.load(model_id)
            except JobFailure as failure:
                _log.error("%s is not preloaded, and its jobs will fail: %s", model_id, failure)
        self._preloaded = True

    def _ready(self, **_: object) -> None:
        self._takes_tickets = True

    def _drain(self) -> None:
        self._renderer.drain()

    def _state(self) -> str:
        if self._renderer.draining:
            return "draining"
        if self._renderer.is_busy:
            return "rendering"
        return "idle" if self._takes_tickets else "starting"

    def _beat(self) -> None:
        if self._engine.device_lost and not self._renderer.draining:
            _log.critical("the device is lost for this process: finishing what is rendered, then starting again")
            self._renderer.draining = True
            os.kill(os.getpid(), signal.SIGTERM)
        self._workers.beat(
            Worker(
                id=self._id,
                models=self._served,
                device=self._engine.device_name,
                state=self._state(),
                resident=self._engine.resident,
            )
        )
        # One that never gets as far as to take tickets is as stuck as one that none reaches.
        idle = self._preloaded and not self._renderer.draining and not self._renderer.is_busy
        self._watchdog.look(
            idle=idle,
            tickets_taken=self._renderer.tickets_taken,
            # Of a farm at work nobody asks: every worker would, and at every beat.
            work_waits=idle and self._work_waits(),
            device_silent_s=self._renderer.device_silent_s,
        )

    def _work_waits(self) -> bool:
        queued = self._queues.queued()
        return any(queued.get(model_id) for model_id in self._served)


class UpkeepRole:
    """Sends webhooks, works on batches and keeps the farm true until told to stop."""

    def __init__(self, config: Settings) -> None:
        redis = connect(config.redis_url)
        scheduler = _scheduler(config, connect(config.redis_url))
        outbox, deliveries = Outbox(redis), Deliveries(redis)
        self._sender = WebhookSender(
            outbox=outbox,
            deliveries=deliveries,
            accounts=Accounts(redis),
            views=Views(redis, scheduler, config.public_url),
            transport=egress.transport(egress.allowed_networks(config), config.webhook_timeout_s),
            lanes=Lanes(_SLOW_DELIVERIES),
            timeout_s=config.webhook_timeout_s,
            retries_s=config.webhook_retries,
        )
        self._batches = batch_worker(config, redis, scheduler)
        sweeper = Sweeper(redis, scheduler, Tickets(redis, celery_app.send_ticket), outbox, Batches(redis))
        tidier = Tidier(redis, deliveries=deliveries, storage=Storage(config), retention_s=config.retention_s)
        file_tidier = FileTidier(
            files=Files(redis), batches=Batches(redis), storage=Storage(config), retention_s=config.file_retention_s
        )
        self._duties = [
            Duty("sweeping", sweeper.sweep, SWEEP_EVERY_S),
            Duty("waking", sweeper.wake, SWEEP_EVERY_S),
            Duty("tidying", tidier.tidy, TIDY_EVERY_S),
            Duty("tidying files", file_tidier.tidy, TIDY_EVERY_S),
        ]

    def run(self) -> None:
        for duty in self._duties:
            duty.start()
        sending = Duty("sending", self._sender.send_when_woken, 0.0, over=lambda: self._sender.draining)
        senders = [sending.start() for _ in range(_SENDERS)]
        Heartbeat(_nothing).start()
        celery_app.on_batch_ticket = self._batches.work_due
        name = f"upkeep-{socket.gethostname()}-{os.getpid()}"
        _run_celery(name, [BATCH_QUEUE], _BATCH_TICKETS, self._drain)
        for sender in senders:
            sender.join()

    def _drain(self) -> None:
        self._sender.draining = True
        self._batches.draining = True


def _scheduler(config: Settings, redis: Redis) -> Scheduler:
    return Scheduler(
        redis,
        lease_s=config.lease_s,
        max_attempts=config.max_attempts,
        retry_delay_s=config.retry_delay_s,
        max_queued=config.max_queued,
    )


def _nothing() -> None:
    """The beat of a worker that is not counted: its tick file alone says that it lives."""


def _run_celery(name: str, queues: Sequence[str], tickets: int, drain: Callable[[], None]) -> None:
    """Take tickets from these queues until the process is told to stop; then `drain` is called.

    Without gossip, mingle and Celery's own heartbeat: workers know of each other through Redis.
    """

    def on_shutdown(**_: object) -> None:
        drain()

    worker_shutting_down.connect(on_shutdown, weak=False)
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


def run(role: str) -> None:
    """Be a worker of this role until told to stop."""
    config = settings()
    metrics.serve(config)
    process = RenderRole(config) if role == "render" else UpkeepRole(config)
    process.run()

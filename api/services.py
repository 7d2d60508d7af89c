"""What the front door works with, built once a process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, cast

from flask import current_app
from redis import Redis

from api.known_keys import KnownKeys
from api.waiting import Waiters
from intake.means import Means, build_means
from shared.accounts import Accounts
from shared.batches import Batches
from shared.deliveries import Deliveries
from shared.events import Events
from shared.files import Files
from shared.limits import AccountLimits
from shared.links import ImageLinks
from shared.records import Records
from shared.scheduler import Scheduler
from shared.settings import Settings
from shared.storage import Storage
from shared.tickets import Tickets
from shared.views import Views
from shared.waking import Waker
from shared.workers import WorkerCount, Workers

_EXTENSION = "rendermill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Services(Means):
    redis: Redis
    scheduler: Scheduler
    records: Records
    events: Events
    deliveries: Deliveries
    files: Files
    batches: Batches
    accounts: Accounts
    known_keys: KnownKeys
    limits: AccountLimits
    views: Views
    workers: Workers
    worker_count: WorkerCount
    waker: Waker
    waiters: Waiters
    links: ImageLinks
    #: Unix seconds.
    catalog_written_at: int

    @classmethod
    def build(cls, settings: Settings, redis: Redis, storage: Storage, send_ticket: Callable[[str, str], None]) -> Self:
        scheduler = Scheduler(
            redis,
            lease_s=settings.lease_s,
            max_attempts=settings.max_attempts,
            retry_delay_s=settings.retry_delay_s,
            max_queued=settings.max_queued,
        )
        means = build_means(settings, redis, storage)
        workers, accounts = Workers(redis), Accounts(redis)
        worker_count = WorkerCount(workers)
        return cls(
            settings=settings,
            catalog=means.catalog,
            redis=redis,
            storage=storage,
            scheduler=scheduler,
            records=Records(redis),
            images=means.images,
            unclaimed=means.unclaimed,
            events=Events(redis),
            deliveries=Deliveries(redis),
            files=Files(redis),
            batches=Batches(redis),
            accounts=accounts,
            known_keys=KnownKeys(accounts),
            limits=AccountLimits(redis),
            views=Views(redis, scheduler, settings.public_url),
            workers=workers,
            worker_count=worker_count,
            waker=Waker(Tickets(redis, send_ticket), worker_count),
            waiters=Waiters(settings.api_threads),
            links=ImageLinks(settings.secret_key, settings.public_url),
            catalog_written_at=int(settings.catalog_path.stat().st_mtime),
            egress_allow=means.egress_allow,
            egress=means.egress,
        )

    def install(self) -> None:
        """Make these the services of the current application."""
        current_app.extensions[_EXTENSION] = self


def services() -> Services:
    """The services of the current application."""
    return cast(Services, current_app.extensions[_EXTENSION])

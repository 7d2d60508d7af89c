"""What the front door works with, built once a process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, cast

import httpx
from flask import current_app
from redis import Redis

from api.links import ImageLinks
from api.waiting import Waiters
from shared import egress
from shared.accounts import Accounts
from shared.catalog import Catalog, load_catalog
from shared.deliveries import Deliveries
from shared.events import Events
from shared.images import Images
from shared.records import Records
from shared.scheduler import Scheduler
from shared.settings import Settings
from shared.storage import Storage
from shared.tickets import Tickets
from shared.views import Views
from shared.workers import WorkerCount, Workers

_EXTENSION = "rendermill"

#: How long the server of an input image may take to answer.
_FETCH_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    settings: Settings
    catalog: Catalog
    redis: Redis
    storage: Storage
    scheduler: Scheduler
    records: Records
    images: Images
    events: Events
    deliveries: Deliveries
    accounts: Accounts
    views: Views
    workers: Workers
    worker_count: WorkerCount
    tickets: Tickets
    waiters: Waiters
    links: ImageLinks
    #: Networks beside the public ones that users may name addresses in, and the client for these addresses.
    egress_allow: egress.Networks
    egress: httpx.Client
    #: Unix seconds.
    catalog_written_at: int

    @classmethod
    def build(cls, settings: Settings, redis: Redis, storage: Storage, send_ticket: Callable[[str, str], None]) -> Self:
        scheduler = Scheduler(
            redis,
            lease_s=settings.lease_s,
            max_attempts=settings.max_attempts,
            retry_delay_s=settings.retry_delay_s,
        )
        allow = egress.allowed_networks(settings)
        workers = Workers(redis)
        return cls(
            settings=settings,
            catalog=load_catalog(settings.catalog_path),
            redis=redis,
            storage=storage,
            scheduler=scheduler,
            records=Records(redis),
            images=Images(redis),
            events=Events(redis),
            deliveries=Deliveries(redis),
            accounts=Accounts(redis),
            views=Views(redis, scheduler, settings.public_url),
            workers=workers,
            worker_count=WorkerCount(workers),
            tickets=Tickets(redis, send_ticket),
            waiters=Waiters(settings.api_threads),
            links=ImageLinks(settings.secret_key, settings.public_url),
            catalog_written_at=int(settings.catalog_path.stat().st_mtime),
            egress_allow=allow,
            egress=egress.client(allow, _FETCH_TIMEOUT_S),
        )

    def install(self) -> None:
        """Make these the services of the current application."""
        current_app.extensions[_EXTENSION] = self


def services() -> Services:
    """The services of the current application."""
    return cast(Services, current_app.extensions[_EXTENSION])

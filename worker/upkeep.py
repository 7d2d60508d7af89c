"""Upkeep: what keeps the farm true while nobody looks.

Threads, not a Celery schedule: they mend lost tickets, so they cannot depend on them. Each duty has a thread of its
own, so that one that waits for storage, or fails, holds up no other. Any number of processes may run them at once, for
each step is atomic or may be done twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError

from shared.batches import Batches
from shared.outbox import Outbox
from shared.scheduler import Scheduler
from shared.storage import StorageError
from shared.tickets import Tickets

_log = logging.getLogger(__name__)

#: How often leases, retries, deadlines, tickets and due webhooks are looked at.
SWEEP_EVERY_S = 1.0
#: After a failure.
_PAUSE_S = 1.0
#: Redis was away when its last answer is this old; no lease ends in a shorter time, for they are renewed all the while.
_ABSENCE_S = 3.0
#: What live workers have, once Redis is back, to renew their leases before the sweeper takes them for dead.
_GRACE_S = 3.0


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to be done again and again, until it is `over`."""

    name: str
    do: Callable[[], None]
    every_s: float
    over: Callable[[], bool] = lambda: False

    def start(self) -> threading.Thread:
        """Do it on a thread of its own, which does not keep the process alive."""
        thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        while not self.over():
            time.sleep(self.every_s if self.succeeds() else _PAUSE_S)

    def succeeds(self) -> bool:
        """Do it once; False, and a line in the log, where that failed."""
        try:
            self.do()
        except (RedisError, StorageError) as error:
            _log.warning("%s waits: %s", self.name, error)
            return False
        except Exception:
            _log.exception("%s failed", self.name)
            return False
        return True


class Sweeper:
    """Repairs what time has broken, and sees that somebody is woken where work waits."""

    def __init__(self, redis: Redis, scheduler: Scheduler, tickets: Tickets, outbox: Outbox, batches: Batches) -> None:
        self._redis = redis
        self._answered_at = time.monotonic()
        self._scheduler = scheduler
        self._tickets = tickets
        self._outbox = outbox
        self._batches = batches

    def sweep(self) -> None:
        """Bring back jobs of lost workers, start retries, expire what is late."""
        self._redis.ping()
        if time.monotonic() - self._answered_at > _ABSENCE_S:
            time.sleep(_GRACE_S)
        swept = self._scheduler.sweep()
        self._answered_at = time.monotonic()
        if swept.leases_ended:
            _log.warning("%d leases ended without their worker", swept.leases_ended)

    def wake(self) -> None:
        """Publish a ticket for each model whose work has none, and for batches that are due; wake senders as well."""
        for model, queued in self._scheduler.queued().items():
            # One is enough: the worker that takes it publishes the next.
            self._tickets.wake_renderers(model, queued=min(1, queued), workers=0)
        self._outbox.wake_senders()
        self._tickets.wake_batches(due=self._batches.due())

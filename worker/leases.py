"""Keeping leases alive while the worker renders and stores.

One thread with its own connection renews every lease of the process, reports progress on the way, and learns from
the answer what was called off or lost. Rendering threads only write numbers into memory.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from redis.exceptions import RedisError

from shared.jobs import Lease, Stage
from shared.scheduler import Progress, Renewal, Scheduler

_log = logging.getLogger(__name__)

#: How often leases are renewed. Far more often than they would end, because the same call carries progress to the
#: client and cancellation to the worker: the latency of both.
RENEW_EVERY_S = 0.25


class Hold:
    """The worker's grip on one job. Written by the thread that renders, read by the keeper, and the other way round."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.progress = Progress(Stage.LOADING, 0.0)
        #: The job is not ours any more, or nobody wants it: do nothing further for it.
        self.dropped = False

    def report(self, stage: Stage, progress: float) -> None:
        self.progress = Progress(stage, progress)


class LeaseKeeper:
    """Renews the leases of one process. `scheduler` has a connection of its own."""

    def __init__(self, scheduler: Scheduler, lease_s: float) -> None:
        self._scheduler = scheduler
        self._lease_s = lease_s
        self._lock = threading.Lock()
        self._holds: dict[Lease, Hold] = {}
        self._renewed_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._thread.start()

    @contextmanager
    def keep(self, leases: Sequence[Lease]) -> Iterator[list[Hold]]:
        """Holds on these leases, renewed until the block ends."""
        holds = [Hold(lease) for lease in leases]
        with self._lock:
            if not self._holds:
                self._renewed_at = time.monotonic()
            self._holds.update((hold.lease, hold) for hold in holds)
        try:
            yield holds
        finally:
            with self._lock:
                for hold in holds:
                    self._holds.pop(hold.lease, None)

    def settle(self, hold: Hold) -> None:
        """Stop renewing a job that is about to be ended."""
        with self._lock:
            self._holds.pop(hold.lease, None)

    def _run(self) -> None:
        while True:
            time.sleep(RENEW_EVERY_S)
            with self._lock:
                holds = [hold for hold in self._holds.values() if not hold.dropped]
            if not holds:
                continue
            try:
                self._renew(holds)
                self._renewed_at = time.monotonic()
            except RedisError as error:
                _log.warning("cannot renew %d leases: %s", len(holds), error)
                if time.monotonic() - self._renewed_at > self._lease_s:
                    # By now somebody else may have the jobs; going on would be work for nothing.
                    for hold in holds:
                        hold.dropped = True

    def _renew(self, holds: list[Hold]) -> None:
        by_lease = {hold.lease: hold for hold in holds}
        answers = self._scheduler.renew({lease: hold.progress for lease, hold in by_lease.items()})
        for lease, answer in answers.items():
            if answer is Renewal.HELD:
                continue
            if lease not in self._holds:
                continue  # ended by its own thread while the renewal was under way
            by_lease[lease].dropped = True
            if answer is Renewal.CANCELED:
                self._scheduler.abandon(lease)
                _log.info("%s was called off", lease.id)
            else:
                _log.warning("lost the lease of %s, attempt %d", lease.id, lease.attempt)

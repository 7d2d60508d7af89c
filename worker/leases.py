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

from shared.answers import Progress, Renewal
from shared.jobs import Lease, Stage
from shared.scheduler import Scheduler
from shared.waking import Waker

_log = logging.getLogger(__name__)

#: How often leases are renewed. Far more often than they would end, because the same call carries progress to the
#: client and cancellation to the worker: the latency of both.
RENEW_EVERY_S = 0.25
#: A lease younger than this is left alone until the next round, so that a job of a tenth of a second costs none.
_FRESH_S = RENEW_EVERY_S / 2


class Hold:
    """The worker's grip on one job. Written by the thread that renders, read by the keeper, and the other way round."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.progress = Progress(Stage.LOADING, 0.0)
        self.since = time.monotonic()
        #: The job is not ours any more, or nobody wants it: do nothing further for it.
        self.dropped = False

    def report(self, stage: Stage, progress: float) -> None:
        """Say how far the job is. It never goes back: what is rendered once more, in smaller batches, takes longer."""
        self.progress = Progress(stage, max(progress, self.progress.progress))


class LeaseKeeper:
    """Renews the leases of one process. `scheduler` has a connection of its own.

    While Redis does not answer, work goes on: nobody else can claim the jobs then, and should this worker alone be cut
    off, the fencing token keeps its late results out.
    """

    def __init__(self, scheduler: Scheduler, waker: Waker) -> None:
        self._scheduler = scheduler
        self._waker = waker
        self._lock = threading.Lock()
        self._holds: set[Hold] = set()

    @property
    def kept(self) -> int:
        """How many leases are renewed at present."""
        return len(self._holds)

    def start(self) -> None:
        """Renew from now on, on a thread of its own."""
        threading.Thread(target=self._run, name="leases", daemon=True).start()

    @contextmanager
    def keep(self, leases: Sequence[Lease]) -> Iterator[list[Hold]]:
        """Holds on these leases, renewed until the block ends."""
        holds = [Hold(lease) for lease in leases]
        with self._lock:
            self._holds.update(holds)
        try:
            yield holds
        finally:
            with self._lock:
                self._holds.difference_update(holds)

    def settle(self, hold: Hold) -> None:
        """Stop renewing a job that is about to be ended: what comes of that is the answer, not a lost lease."""
        with self._lock:
            self._holds.discard(hold)

    def renew(self, min_age_s: float = 0.0) -> None:
        """Renew every lease that is at least so old. Raises RedisError."""
        newest = time.monotonic() - min_age_s
        with self._lock:
            holds = [hold for hold in self._holds if not hold.dropped and hold.since <= newest]
        answers = self._scheduler.renew({hold.lease: hold.progress for hold in holds})
        for hold in holds:
            # One that was settled while the renewal was under way is no more the keeper's business.
            if answers[hold.lease] is not Renewal.HELD and hold in self._holds:
                self._drop(hold, answers[hold.lease])

    def _drop(self, hold: Hold, answer: Renewal) -> None:
        hold.dropped = True
        if answer is Renewal.CANCELED:
            _log.info("%s was called off", hold.lease.id)
            # Should this fail, the sweeper ends the job when the lease does.
            if aftermath := self._scheduler.abandon(hold.lease):
                # Not on this thread: a broker that hangs must not cost all the other jobs their leases.
                woken_for = (hold.lease.request.model, aftermath)
                threading.Thread(target=self._waker.after_attempt, args=woken_for, name="waking", daemon=True).start()
        else:
            _log.warning("lost the lease of %s, attempt %d", hold.lease.id, hold.lease.attempt)

    def _run(self) -> None:
        while True:
            time.sleep(RENEW_EVERY_S)
            try:
                self.renew(_FRESH_S)
            except RedisError as error:
                _log.warning("cannot renew leases: %s", error)
            except Exception:
                # Without this thread every job of the worker would be taken from it.
                _log.exception("cannot renew leases")

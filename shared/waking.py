"""Waking whoever has something to do now: the tickets that whoever made the work publishes, and how many are missing.

They are a courtesy that saves time. Whatever goes wrong here, the work is on record, and upkeep publishes what is
missing within a second; so nothing here raises.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redis import Redis

from shared.answers import Aftermath, Claim, Placement
from shared.tickets import Tickets
from shared.workers import WorkerCount, Workers

_log = logging.getLogger(__name__)


class Waker:
    """Publishes what tickets are missing. The scripts have told how many there are. Safe to share between threads."""

    def __init__(self, tickets: Tickets, workers: WorkerCount) -> None:
        self._tickets = tickets
        self._workers = workers

    def after_acceptance(self, model_id: str, placement: Placement) -> None:
        """A worker comes for the job of a request."""
        with _best_effort():
            workers = self._workers.serving(model_id)
            self._tickets.wake_renderers(model_id, queued=placement.queued, workers=workers, lying=placement.tickets)

    def after_claim(self, claim: Claim) -> None:
        """Others, or this worker's next thread, go on with what is left."""
        # First what is known: each worker of a large farm would count all the others, again and again.
        if claim.leases and not self._tickets.suffice(queued=claim.queued, lying=claim.tickets):
            with _best_effort():
                workers = self._workers.serving(claim.model)
                self._tickets.pass_on(claim.model, queued=claim.queued, workers=workers, lying=claim.tickets)

    def after_job(self, aftermath: Aftermath) -> None:
        """Where a job that ended was the last of its batch, that is finalized."""
        if aftermath.ends_batch:
            self.for_batches()

    def after_work(self, model_id: str, aftermath: Aftermath) -> None:
        """Where the end of a job let its account's next one in, or a job was given back, somebody comes for it."""
        if aftermath.queued:
            with _best_effort():
                # One is enough: whoever takes it publishes the next.
                self._tickets.pass_on(model_id, queued=1, workers=0, lying=aftermath.tickets)

    def after_attempt(self, model_id: str, aftermath: Aftermath) -> None:
        """Both, for an attempt that ended by itself, with or without its job."""
        self.after_job(aftermath)
        self.after_work(model_id, aftermath)

    def for_batches(self) -> None:
        """A batch that is due is worked on."""
        with _best_effort():
            self._tickets.wake_batches(due=1)


def build_waker(redis: Redis, send_ticket: Callable[[str, str], None]) -> Waker:
    """A waker with a count of workers of its own; `send_ticket(task, queue)` publishes one Celery message."""
    return Waker(Tickets(redis, send_ticket), WorkerCount(Workers(redis)))


@contextmanager
def _best_effort() -> Iterator[None]:
    try:
        yield
    except Exception:
        # Redis's errors or the broker's.
        _log.warning("no ticket could be published", exc_info=True)

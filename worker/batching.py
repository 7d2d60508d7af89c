"""Batches on their way: counted, made jobs, called off, finalized; each step from what the record says.

Tickets say that a batch is due; which, and for what, is read from Redis. So a batch survives its worker.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress

from redis import Redis
from redis.exceptions import RedisError

from intake.batch_lines import TooManyLines
from intake.means import build_means
from shared.batch_claims import BatchClaim, BatchClaims, BatchLost
from shared.batches import MAX_LINES, Batch, Batches, BatchStatus, job_id, left_s
from shared.errors import RendermillError
from shared.files import File, Files, file_key
from shared.links import ImageLinks
from shared.records import Records
from shared.scheduler import Scheduler
from shared.settings import Settings
from shared.storage import ObjectMissing, Storage, StorageError
from shared.views import Views
from worker.finalizing import Finalizer
from worker.ingest import Ingest, Stopped

_log = logging.getLogger(__name__)

#: Before a batch is taken up again that a limit or storage stands against.
_PAUSE_S = 5.0
#: Jobs ended in one round trip: where that is one script, about 15 ms of Redis's time.
_STEP = 100


class BatchWorker:
    """Works on what is due. Safe to share between threads."""

    def __init__(
        self,
        *,
        batches: Batches,
        claims: BatchClaims,
        files: Files,
        scheduler: Scheduler,
        ingest: Ingest,
        finalizer: Finalizer,
    ) -> None:
        self._batches = batches
        self._claims = claims
        self._files = files
        self._scheduler = scheduler
        self._ingest = ingest
        self._finalizer = finalizer

    @property
    def draining(self) -> bool:
        """Set when the process is told to go: what is being accepted or written is finished, nothing more is begun."""
        return self._ingest.stopping

    @draining.setter
    def draining(self, value: bool) -> None:
        self._ingest.stopping = value

    def work_due(self) -> None:
        """Work on batches until none is due."""
        while not self.draining and (claim := self._claims.claim()) is not None:
            self._work(claim)

    def _work(self, claim: BatchClaim) -> None:
        wait_s, held_up = _PAUSE_S, None
        try:
            with self._claims.kept(claim):
                self._advance(claim)
            return
        except BatchLost:
            _log.warning("%s was taken over", claim.id)
            return
        except Stopped:
            wait_s = 0.0
        except RendermillError as error:
            _log.warning("%s waits: %s", claim.id, error)
            held_up = error
        except (StorageError, RedisError) as error:
            _log.warning("%s waits: %s", claim.id, error)
        except Exception:
            _log.exception("%s could not go on", claim.id)
        with suppress(RedisError):
            self._claims.put_off(claim, wait_s, held_up)

    def _advance(self, claim: BatchClaim) -> None:
        """Do all that can be done now."""
        while (batch := self._batches.read(claim.id)) is not None and not batch.status.is_terminal:
            try:
                file = _input_of(batch, self._files)
                if batch.ingested:
                    if batch.open == 0:
                        self._finalizer.run(claim, batch, file)
                        return
                    if self._expire_and_rest(claim, batch):
                        return
                elif batch.status is BatchStatus.CANCELLING:
                    self._call_off(claim, batch)
                    self._claims.hold(claim, called_off=1, ingested=1)
                elif batch.status is BatchStatus.VALIDATING:
                    self._begin(claim, file)
                else:
                    self._ingest.run(claim, batch, file)
                    self._claims.hold(claim, ingested=1)
            except ObjectMissing as error:
                _log.error("%s: %s", claim.id, error)
                self._call_off(claim, batch)
                self._finalizer.fail(claim, "file_missing", "The input file is gone from the storage.")

    def _begin(self, claim: BatchClaim, file: File) -> None:
        try:
            total = self._ingest.count(claim, file)
        except TooManyLines:
            total = MAX_LINES + 1
        if total == 0:
            self._finalizer.fail(claim, "empty_file", "The file has no lines.")
        elif total > MAX_LINES:
            self._finalizer.fail(
                claim,
                "too_many_lines",
                f"The file has more than {MAX_LINES} lines. Split it, and make a batch of each part.",
            )
        else:
            self._claims.hold(claim, status=BatchStatus.IN_PROGRESS, total=total)

    def _call_off(self, claim: BatchClaim, batch: Batch) -> None:
        for ids in _steps(batch):
            self._scheduler.cancel_all(ids, batch.account)
            self._claims.hold(claim)

    def _expire_and_rest(self, claim: BatchClaim, batch: Batch) -> bool:
        """End what waits, if the window is over. False where the batch does not rest: something has changed since."""
        if left_s(batch) <= 0:
            for ids in _steps(batch):
                self._scheduler.expire_all(ids)
        _, rests = self._claims.hold(claim)
        return rests


def _steps(batch: Batch) -> Iterator[list[str]]:
    """The ids of its jobs, as many at a time as one call takes."""
    for first in range(1, batch.line + 1, _STEP):
        yield [job_id(batch.id, line) for line in range(first, min(batch.line, first + _STEP - 1) + 1)]


def _input_of(batch: Batch, files: Files) -> File:
    for file in files.read([batch.input_file]):
        return file
    raise ObjectMissing(file_key(batch.input_file))


def batch_worker(config: Settings, redis: Redis, scheduler: Scheduler, storage: Storage | None = None) -> BatchWorker:
    """The worker of a process with these settings."""
    means = build_means(config, redis, storage or Storage(config))
    claims, files = BatchClaims(redis, lease_s=config.lease_s), Files(redis)
    return BatchWorker(
        batches=Batches(redis),
        claims=claims,
        files=files,
        scheduler=scheduler,
        ingest=Ingest(means=means, claims=claims, scheduler=scheduler),
        finalizer=Finalizer(
            means=means,
            claims=claims,
            files=files,
            records=Records(redis),
            views=Views(redis, scheduler, config.public_url),
            links=ImageLinks(config.secret_key, config.public_url),
        ),
    )

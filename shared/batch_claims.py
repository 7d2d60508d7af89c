"""Claims on batches: a worker has a batch to itself for as long as it renews its claim.

Every write bears the claim's fence, so a worker that was presumed dead changes nothing, whatever it goes on to do.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from redis import Redis
from redis.exceptions import RedisError

from shared.batches import BatchStatus
from shared.errors import RendermillError
from shared.redis_client import PREFIX, Script

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: A claim is renewed so many times in its lease: one renewal may fail, and another be late.
_RENEWALS = 3
#: How often a worker that writes nothing for long sees whether the batch is still its own.
_LOOK_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class BatchClaim:
    """A worker's claim on a batch. The fence is new with each claim: every write of the worker carries it."""

    id: str
    fence: int


class BatchLost(Exception):
    """Another worker has the batch: stop and drop everything."""


class BatchClaims:
    """What a worker does to the records of batches. Safe to share between threads."""

    def __init__(self, redis: Redis, *, lease_s: float, prefix: str = PREFIX) -> None:
        """A claim lasts `lease_s` without renewal; a dead worker's batch is taken up by another after this long."""
        self._lease_s = lease_s
        self._lease_ms = round(lease_s * 1000)
        self._claim = Script(redis, "claim_batch", prefix)
        self._renew = Script(redis, "renew_batch", prefix)
        self._hold = Script(redis, "hold_batch", prefix)
        self._finish = Script(redis, "finish_batch", prefix)

    def claim(self) -> BatchClaim | None:
        """A batch that is due for work, or None."""
        answer = self._claim(self._lease_ms)
        return BatchClaim(str(answer[0]), int(answer[1])) if answer else None

    def renew(self, claim: BatchClaim) -> None:
        """Renew the claim; nothing where it was lost, or the worker is done with the batch."""
        self._renew(claim.id, claim.fence, self._lease_ms)

    @contextmanager
    def kept(self, claim: BatchClaim) -> Iterator[None]:
        """Renew the claim until the block ends, on a thread of its own: its worker may wait for pictures or storage.

        That it was lost the worker learns at its next write.
        """
        over = threading.Event()

        def keep() -> None:
            while not over.wait(self._lease_s / _RENEWALS):
                try:
                    self.renew(claim)
                except RedisError as error:
                    _log.warning("cannot renew the claim on %s: %s", claim.id, error)

        keeper = threading.Thread(target=keep, name="batch-claim", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()

    def watched(self, claim: BatchClaim, items: Iterator[T]) -> Iterator[T]:
        """The items, of which each takes its time. Raises BatchLost between two of them once the claim was lost."""
        look_at = time.monotonic() + _LOOK_EVERY_S
        for item in items:
            if time.monotonic() > look_at:
                self.hold(claim)
                look_at = time.monotonic() + _LOOK_EVERY_S
            yield item

    def hold(self, claim: BatchClaim, *, status: BatchStatus | None = None, **fields: str | int) -> tuple[str, bool]:
        """Renew the claim and write fields of the record; the status now, and whether the batch rests.

        `ingested=1` says that no more jobs will come: the batch then rests until its last one is finished. Raises
        BatchLost where another worker has the batch.
        """
        flat = [value for pair in fields.items() for value in pair]
        answer = self._hold(claim.id, claim.fence, self._lease_ms, status or "", *flat)
        if answer[0] == "lost":
            raise BatchLost(claim.id)
        return str(answer[0]), bool(answer[1])

    def put_off(self, claim: BatchClaim, wait_s: float = 0.0, held_up: RendermillError | None = None) -> None:
        """Let go of the batch, which is due again after `wait_s`; nothing where another worker has it.

        Where a limit holds it up, its owner is told, until more of it is accepted.
        """
        fields = [] if held_up is None else ["held_up", json.dumps({"code": held_up.code, "message": held_up.detail})]
        self._hold(claim.id, claim.fence, round(wait_s * 1000), "", *fields)

    def finish(self, claim: BatchClaim, status: BatchStatus, **fields: str) -> None:
        """End the batch; its webhooks go out. Raises BatchLost where another worker has it."""
        flat = [text for pair in fields.items() for text in pair]
        if self._finish(claim.id, claim.fence, status, *flat) == "lost":
            raise BatchLost(claim.id)

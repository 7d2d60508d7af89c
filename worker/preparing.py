"""What the device does next: jobs that may share a batch, claimed, with their input images at hand.

Whatever is wrong with an input image fails its own job, and the rest of the batch goes on.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from redis.exceptions import RedisError

from shared.answers import Claim
from shared.errors import JobFailure
from shared.jobs import Lease
from shared.models import Model
from shared.scheduler import Scheduler
from shared.waking import Waker
from worker.device import Device
from worker.engine import Item
from worker.leases import Hold, LeaseKeeper
from worker.outcomes import Outcomes
from worker.storing import Store
from worker.turns import Turns

_log = logging.getLogger(__name__)

Batch = list[tuple[Hold, list[Item]]]

#: How often a batch that lingers looks for jobs that join it: hardly later than they come, at a script call each.
_LOOK_EVERY_S = 0.02
#: Input images that are fetched and decoded side by side: those of a batch of the usual size.
_FETCHES = 8
_NEVER = -math.inf


@dataclass(frozen=True, slots=True)
class Prepared:
    """The next batch. It may be empty: what there was had no usable input image."""

    claim: Claim
    model: Model
    batch: Batch
    #: Work has waited since the device was given the batch before.
    awaited: bool
    #: Until then, the batch waited for more jobs to join it.
    lingered_until: float

    @property
    def images(self) -> int:
        return sum(len(items) for _, items in self.batch)


class Preparer:
    """Prepares one batch at a time for one device."""

    def __init__(
        self,
        worker_id: str,
        *,
        turns: Turns,
        scheduler: Scheduler,
        keeper: LeaseKeeper,
        outcomes: Outcomes,
        store: Store,
        waker: Waker,
        closed: Callable[[], bool],
    ) -> None:
        """Once `closed`, nothing more is claimed."""
        self._id = worker_id
        self._turns = turns
        self._scheduler = scheduler
        self._keeper = keeper
        self._outcomes = outcomes
        self._store = store
        self._waker = waker
        self._closed = closed
        self._lingered_until = _NEVER
        self._fetching = ThreadPoolExecutor(_FETCHES, thread_name_prefix="inputs")
        #: The last claim, where work waited behind it and nobody is known to have taken that.
        self._wanted_behind: Claim | None = None

    def prepare(self, device: Device, kept: ExitStack) -> Prepared | None:
        """The batch that the device is to have next, its leases renewed until `kept` is closed; None for none.

        Waits until the device is nearly free: so the batch is as full as can be, and its jobs have no long wait.
        """
        device.wait_until_nearly_free()
        self._store.wait_until_back(give_up=self._closed)
        awaited = device.busy or self._wanted_behind is not None
        started, self._lingered_until = time.monotonic(), _NEVER
        claim, holds = None, []
        for claim in self._claims():
            holds += kept.enter_context(self._keeper.keep(claim.leases))
            self._waker.after_claim(claim)
        if claim is None:
            return None
        self._wanted_behind = claim if claim.leaves_work else None
        batch = list(self._with_inputs(holds))
        if self._lingered_until == _NEVER:
            device.prepared(time.monotonic() - started)
        return Prepared(claim, self._turns.model(claim.model), batch, awaited, self._lingered_until)

    def nothing_waits_behind(self, claim: Claim) -> None:
        """Another worker took what waited behind this claim."""
        if self._wanted_behind is claim:
            self._wanted_behind = None

    def _claims(self) -> Iterator[Claim]:
        """The jobs of the next batch, and those that join it while it lingers; nothing where no work waits."""
        if self._closed():
            return
        limits = self._turns.limits()
        try:
            claim = self._scheduler.claim_first(limits, self._id)
            if not claim.leases:
                self._wanted_behind = None
                return
            yield claim
            lane, began = claim.leases[0].request.lane, time.monotonic()
            linger_until = began + self._turns.model(claim.model).linger_s
            # A full batch does not linger, and none that keeps anybody waiting.
            while claim.room and not claim.leaves_work and time.monotonic() < linger_until and not self._closed():
                time.sleep(_LOOK_EVERY_S)
                self._lingered_until = time.monotonic()
                claim = self._scheduler.join(claim.model, lane, self._id, room=claim.room, others=limits)
                yield claim
        except RedisError as error:
            _log.warning("cannot claim: %s", error)

    def _with_inputs(self, holds: Sequence[Hold]) -> Iterator[tuple[Hold, list[Item]]]:
        side_by_side = any(hold.lease.request.input_image for hold in holds)
        prepared = (self._fetching.map if side_by_side else map)(self._items, [hold.lease for hold in holds])
        for hold, items in zip(holds, prepared, strict=True):
            if isinstance(items, JobFailure):
                self._outcomes.fail(hold, items)
            else:
                yield hold, items

    def _items(self, lease: Lease) -> list[Item] | JobFailure:
        request = lease.request
        try:
            input_image = self._store.input(request.input_image, "RGB")
            mask_image = self._store.input(request.mask_image, "L")
        except JobFailure as failure:
            return failure
        return [
            Item(request=request, seed=request.seed + number, input_image=input_image, mask_image=mask_image)
            for number in range(request.n)
        ]

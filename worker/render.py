"""From ticket to picture: claim → engine → storage → complete.

One ticket at a time has the device; the others encode and upload what was rendered before. A ticket claims only when
the device is free, so batches are as full as they can be and no lease is held by a job that waits.

A ticket wakes the worker, whichever model it is for: which one is rendered next is decided when the device is free, by
`worker/turns.py`. It is good for batch after batch, until none of the worker's models has work: between two batches
there is then no message to be sent or taken.

Whatever goes wrong with a job becomes its failure; where not even that can be told, its lease ends. No exception of
one job reaches another, and no lease outlives the ticket that took it.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice

from redis.exceptions import RedisError

from shared.answers import Aftermath, Claim
from shared.errors import JobFailure
from shared.jobs import Lease, Stage
from shared.models import Model
from shared.scheduler import Scheduler
from shared.waking import Waker
from worker import metrics
from worker.engine import Item, Rendered
from worker.engines import RenderEngine
from worker.leases import Hold, LeaseKeeper
from worker.outcomes import Outcomes
from worker.storing import DENOISED, Pictures, Store
from worker.turns import Turns

_log = logging.getLogger(__name__)

_Batch = list[tuple[Hold, list[Item]]]

#: How often a batch that lingers looks for jobs that join it: hardly later than they come, at a script call each.
_LOOK_EVERY_S = 0.02


class Renderer:
    """Works off tickets on one device. `work` may be called from several threads."""

    def __init__(
        self,
        worker_id: str,
        *,
        engine: RenderEngine,
        turns: Turns,
        scheduler: Scheduler,
        keeper: LeaseKeeper,
        outcomes: Outcomes,
        store: Store,
        waker: Waker,
        drain_s: float = math.inf,
    ) -> None:
        self._id = worker_id
        self._engine = engine
        self._turns = turns
        self._scheduler = scheduler
        self._keeper = keeper
        self._outcomes = outcomes
        self._store = store
        self._waker = waker
        self._device = threading.Lock()
        self._tickets_held = 0
        self._count_lock = threading.Lock()
        self._last_step: float | None = None
        #: When the device was done with its last batch; and the claim of that, where work waited behind it.
        self._free_since = time.monotonic()
        self._wanted_behind: Claim | None = None
        #: Tickets taken since the worker started.
        self.tickets_taken = 0
        #: The worker was told to go: what is rendered is finished, nothing more is claimed.
        self.draining = False
        self._drain_s = drain_s
        self._give_back_at = math.inf

    @property
    def is_busy(self) -> bool:
        """Whether any ticket is being worked off."""
        return self._tickets_held > 0

    @property
    def device_silent_s(self) -> float:
        """How long the engine has been at work without a sign of life; 0 while it has nothing to do."""
        last_step = self._last_step
        return 0.0 if last_step is None else time.monotonic() - last_step

    def work(self) -> None:
        """Work off one ticket: render and store batch after batch, as long as work waits."""
        with self._holding_a_ticket():
            while self._work_off_batch():
                pass

    def _work_off_batch(self) -> bool:
        """Whether there was a batch, and more work waits behind it."""
        with ExitStack() as kept:
            with self._device:
                claim, holds = None, []
                for claim in self._claims():
                    holds += kept.enter_context(self._keeper.keep(claim.leases))
                    self._waker.after_claim(claim)
                if claim is None:
                    return False
                model = self._turns.model(claim.model)
                self._turns.begin(model.id)
                finished = self._render(model, holds)
                self._wanted_behind = claim if claim.leaves_work else None
            last: Aftermath | None = None
            for pictures in finished:
                last = self._store.save(pictures) or last
        if last is None:
            return claim.leaves_work
        self._waker.after_work(model.id, last)
        leaves_work = last.queued > 0 or claim.elsewhere
        if not leaves_work and self._wanted_behind is claim:
            # Another worker took it.
            self._wanted_behind = None
        return leaves_work

    def drain(self) -> None:
        """Claim nothing more, and finish what is rendered; what takes longer than the drain time is given back."""
        self._give_back_at = time.monotonic() + self._drain_s
        self.draining = True

    @contextmanager
    def _holding_a_ticket(self) -> Iterator[None]:
        with self._count_lock:
            self._tickets_held += 1
            self.tickets_taken += 1
        try:
            yield
        finally:
            with self._count_lock:
                self._tickets_held -= 1

    def _claims(self) -> Iterator[Claim]:
        """The jobs of the next batch, and those that join it while it lingers; nothing where no work waits."""
        self._store.wait_until_back(give_up=lambda: self.draining)
        if self.draining or self._engine.device_lost:
            return
        limits = self._turns.limits()
        try:
            claim = self._scheduler.claim_first(limits, self._id)
            if not claim.leases:
                self._wanted_behind = None
                return
            yield claim
            lane, lingers_since = claim.leases[0].request.lane, time.monotonic()
            linger_until = lingers_since + self._turns.model(claim.model).linger_s
            # A full batch does not linger, and none that keeps anybody waiting.
            while claim.room and not claim.leaves_work and time.monotonic() < linger_until and not self.draining:
                time.sleep(_LOOK_EVERY_S)
                claim = self._scheduler.join(claim.model, lane, self._id, room=claim.room, others=limits)
                yield claim
            # The device is not idle for want of anything but more jobs.
            self._free_since += time.monotonic() - lingers_since
        except RedisError as error:
            _log.warning("cannot claim: %s", error)

    def _render(self, model: Model, holds: Sequence[Hold]) -> list[Pictures]:
        batch: _Batch = []
        for hold in holds:
            try:
                batch.append((hold, self._items(hold.lease)))
            except JobFailure as failure:
                self._outcomes.fail(hold, failure)
        return self._render_batch(model, batch)

    def _items(self, lease: Lease) -> list[Item]:
        request = lease.request
        input_image = self._store.input(request.input_image, "RGB")
        mask_image = self._store.input(request.mask_image, "L")
        return [
            Item(request=request, seed=request.seed + number, input_image=input_image, mask_image=mask_image)
            for number in range(request.n)
        ]

    def _render_batch(self, model: Model, batch: _Batch) -> list[Pictures]:
        """The pictures of the batch. Where it fails, halves of it are tried, down to the job that is to blame."""
        batch = [(hold, items) for hold, items in batch if not hold.dropped]
        if not batch:
            return []
        try:
            rendered = self._run(model, batch)
        except JobFailure as failure:
            return self._after_failure(model, batch, failure)
        if rendered.interrupted:
            for hold, _ in batch:
                if not hold.dropped:
                    self._outcomes.give_back(hold)
            return []
        _log.info("%s: %d images of %d jobs in %.2f s", model.id, len(rendered.images), len(batch), rendered.render_s)
        metrics.BATCH_IMAGES.labels(model.id).observe(len(rendered.images))
        metrics.RENDER_SECONDS.labels(model.id).observe(rendered.render_s)
        self._turns.rendered(rendered)
        return _share_out(batch, rendered)

    def _after_failure(self, model: Model, batch: _Batch, failure: JobFailure) -> list[Pictures]:
        if self._engine.device_lost:
            # Their leases end with this ticket, unspoken: so the scheduler learns that they cost it a worker, and
            # has each of them rendered alone.
            _log.critical("the device is lost, with %d jobs on it: %s", len(batch), failure)
            return []
        if len(batch) == 1 or failure.code == "model_unavailable":
            for hold, _ in batch:
                self._outcomes.fail(hold, failure)
            return []
        _log.warning("a batch of %d jobs failed, trying its halves: %s", len(batch), failure)
        half = len(batch) // 2
        return self._render_batch(model, batch[:half]) + self._render_batch(model, batch[half:])

    def _run(self, model: Model, batch: _Batch) -> Rendered:
        def on_step(step: int, total: int) -> bool:
            self._last_step = time.monotonic()
            for hold, _ in batch:
                hold.report(Stage.RENDERING, DENOISED * step / total)
            return time.monotonic() > self._give_back_at or all(hold.dropped for hold, _ in batch)

        self._last_step = started = time.monotonic()
        if self._wanted_behind:
            metrics.DEVICE_IDLE_SECONDS.labels(model.id).observe(started - self._free_since)
            self._wanted_behind = None
        try:
            return self._engine.render(model, [item for _, items in batch for item in items], on_step)
        except JobFailure:
            raise
        except Exception as error:
            _log.exception("rendering failed")
            raise JobFailure("render_failed", f"{type(error).__name__} while rendering.") from error
        finally:
            self._last_step = None
            self._free_since = time.monotonic()


def _share_out(batch: _Batch, rendered: Rendered) -> list[Pictures]:
    """Each job's pictures, and its share of the device's time, by its predicted cost."""
    cost = sum(hold.lease.cost for hold, _ in batch)
    images = iter(rendered.images)
    return [
        Pictures(
            hold,
            list(islice(images, len(items))),
            rendered.load_s,
            rendered.render_s,
            rendered.render_s * hold.lease.cost / cost,
            rendered.warnings.get(hold.lease.request, []),
            rendered.provenance,
        )
        for hold, items in batch
    ]

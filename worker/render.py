"""From ticket to picture: claim → engine → storage → complete.

One ticket at a time has the device; a second prepares what the device does next (`worker/preparing.py`), when it is
about to be free (`worker/device.py`); the others encode and upload what was rendered before. So batches are as full as
they can be, the device does not wait for them, and no lease is held by a job that waits for longer than that takes.

A ticket wakes the worker, whichever model it is for: which one is rendered next is decided when the batch is prepared,
by `worker/turns.py`. It is good for batch after batch, until none of the worker's models has work: between two batches
there is then no message to be sent or taken.

Whatever goes wrong with a job becomes its failure; where not even that can be told, its lease ends. No exception of
one job reaches another, and no lease outlives the ticket that took it.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice

from shared.answers import Aftermath
from shared.errors import JobFailure
from shared.jobs import Stage
from shared.models import Model
from shared.scheduler import Scheduler
from shared.waking import Waker
from worker import metrics
from worker.device import Device
from worker.engine import Rendered
from worker.engines import RenderEngine
from worker.leases import LeaseKeeper
from worker.outcomes import Outcomes
from worker.preparing import Batch, Prepared, Preparer
from worker.storing import DENOISED, Pictures, Store
from worker.turns import Turns

_log = logging.getLogger(__name__)


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
        self._engine = engine
        self._turns = turns
        self._outcomes = outcomes
        self._store = store
        self._waker = waker
        self._preparer = Preparer(
            worker_id,
            turns=turns,
            scheduler=scheduler,
            keeper=keeper,
            outcomes=outcomes,
            store=store,
            waker=waker,
            closed=lambda: self.draining or engine.device_lost,
        )
        #: Whose batch is the next one on the device.
        self._next = threading.Lock()
        self._device = Device()
        self._tickets_held = 0
        self._count_lock = threading.Lock()
        self._last_step: float | None = None
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
            with self._next:
                prepared = self._preparer.prepare(self._device, kept)
                if prepared is None:
                    return False
                self._take_device(prepared)
            finished = self._render(prepared)
            claim = prepared.claim
            last: Aftermath | None = None
            for pictures in finished:
                last = self._store.save(pictures) or last
        if last is None:
            return claim.leaves_work
        self._waker.after_work(claim.model, last)
        leaves_work = last.queued > 0 or claim.elsewhere
        if not leaves_work:
            self._preparer.nothing_waits_behind(claim)
        return leaves_work

    def _take_device(self, prepared: Prepared) -> None:
        model = prepared.model
        lane = next((hold.lease.request.lane for hold, _ in prepared.batch), None)
        # Nobody knows how long a model takes to load, nor the first batch of a kind.
        kind = (model.id, lane, prepared.images) if model.id in self._engine.resident else None
        free_s = self._device.take(kind)
        if prepared.awaited:
            idle_s = max(0.0, min(free_s, time.monotonic() - prepared.lingered_until))
            metrics.DEVICE_IDLE_SECONDS.labels(model.id).observe(idle_s)
        self._turns.begin(model.id)

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

    def _render(self, prepared: Prepared) -> list[Pictures]:
        """Render the batch that has the device, and leave that to the next one."""
        finished: list[Pictures] = []
        try:
            if self._engine.device_lost:
                # By the batch before, while this one was prepared: it has nothing to do with that.
                for hold, _ in prepared.batch:
                    self._outcomes.give_back(hold)
            else:
                finished = self._render_batch(prepared.model, prepared.batch)
        finally:
            self._device.leave(as_usual=bool(finished))
        return finished

    def _render_batch(self, model: Model, batch: Batch) -> list[Pictures]:
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

    def _after_failure(self, model: Model, batch: Batch, failure: JobFailure) -> list[Pictures]:
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

    def _run(self, model: Model, batch: Batch) -> Rendered:
        def on_step(step: int, total: int) -> bool:
            self._last_step = time.monotonic()
            for hold, _ in batch:
                hold.report(Stage.RENDERING, DENOISED * step / total)
            return time.monotonic() > self._give_back_at or all(hold.dropped for hold, _ in batch)

        self._last_step = time.monotonic()
        try:
            return self._engine.render(model, [item for _, items in batch for item in items], on_step)
        except JobFailure:
            raise
        except Exception as error:
            _log.exception("rendering failed")
            raise JobFailure("render_failed", f"{type(error).__name__} while rendering.") from error
        finally:
            self._last_step = None


def _share_out(batch: Batch, rendered: Rendered) -> list[Pictures]:
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

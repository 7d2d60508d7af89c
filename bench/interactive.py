"""How long an interactive job waits for its rendering to begin, while a batch of low priority fills the farm.

Against the same job on the same farm while nothing waits. It comes from an account of its own, at a moment of chance,
and cannot share a batch with what waits. At the worst every worker has just begun a batch, so that it waits for one.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from api.ticket_producer import ticket_producer
from bench.jobs import ACCOUNT, new_scheduler
from bench.measuring import Rounds, Row, Target
from bench.processes import wait_until
from bench.sizes import Sizes
from bench.synthetic_farm import CATALOG, synthetic_farm, synthetic_job
from shared.jobs import Priority
from shared.records import Records
from shared.tickets import Tickets

_WORKERS = 2
_PEER = "the farm idle"
_VISITOR = "visitor"
#: Steps of the visitor's jobs: others than the backlog's, so that they share no batch.
_STEPS = 10


def run(sizes: Sizes, scratch: Path) -> list[Row]:
    model = CATALOG.models[sizes.visited]
    assert model.synthetic is not None
    batch_s = model.synthetic.batch_s
    with synthetic_farm(scratch, model.id, _WORKERS) as farm:
        scheduler, records = new_scheduler(farm.broker.redis), Records(farm.broker.redis)
        tickets = Tickets(farm.broker.redis, ticket_producer(farm.broker.url))

        def wait_s(priority: Priority) -> float:
            """Seconds from the acceptance of a job until a worker begins with it."""
            job = synthetic_job(model, 1, _VISITOR, num_steps=_STEPS, priority=priority)
            scheduler.enqueue(_VISITOR, [job])
            queued = scheduler.queued()[model.id]
            tickets.wake_renderers(model.id, queued=queued, workers=_WORKERS)
            started = lambda: records.get(job.id).started_at  # noqa: E731
            wait_until(started, "the start of the job")
            found = records.get(job.id)
            return (found.started_at or 0.0) - found.created_at

        def visits(priority: Priority, pause_s: Callable[[], float]) -> list[float]:
            waits = []
            for _ in range(sizes.visits):
                time.sleep(pause_s())
                waits.append(wait_s(priority))
            return waits

        # On an idle farm each comes when the one before is done; on a full one at any point of a batch.
        idle = {priority: visits(priority, lambda: batch_s * 1.1) for priority in (Priority.NORMAL, Priority.HIGH)}
        time.sleep(batch_s)
        backlog = [synthetic_job(model, seed, priority=Priority.LOW) for seed in range(sizes.backlog)]
        scheduler.enqueue(ACCOUNT, backlog)
        tickets.wake_renderers(model.id, queued=len(backlog), workers=_WORKERS)
        time.sleep(batch_s)
        chance = random.Random(1)
        full = {priority: visits(priority, lambda: chance.uniform(1, 2) * batch_s) for priority in idle}
    rows: list[Row] = []
    for priority, undisturbed in idle.items():
        waits, longest_s = full[priority], max(undisturbed)
        rows += [
            Row(
                f"wait of a {priority} job behind {sizes.backlog:,} of low priority, median",
                "ms",
                _PEER,
                Rounds([1000 * median(waits)], [1000 * median(undisturbed)]),
            ),
            Row(
                "the same, the longest",
                "batches",
                _PEER,
                Rounds([max(waits) / batch_s], [longest_s / batch_s]),
                # One batch on top of what it takes anyway.
                Target(round(1 + longest_s / batch_s, 3), at_least=False, on_ratio=False),
            ),
        ]
    return rows

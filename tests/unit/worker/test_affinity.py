"""A worker of several models: what is loaded goes first, but nobody is kept waiting for longer than a turn."""

from __future__ import annotations

import pytest
from redis import Redis

from shared.jobs import NewJob, Priority
from tests.scheduling import new_job
from tests.unit.worker.fakes import BATCH_LIMIT, STEPS, RenderWorker, fake_model

#: Seconds that a batch takes.
BATCH_S = 1.0


def worker_of(redis: Redis, *model_ids: str, affinity_s: float) -> RenderWorker:
    worker = RenderWorker(redis, *map(fake_model, model_ids), affinity_s=affinity_s)

    def pass_time(_: int) -> None:
        worker.now += BATCH_S / STEPS

    worker.engine.at_step = pass_time
    return worker


def batches_of(model: str, batches: int, priority: Priority = Priority.NORMAL) -> list[NewJob]:
    return [new_job(model=model, prompt=model, priority=priority) for _ in range(batches * BATCH_LIMIT)]


def rendered(worker: RenderWorker) -> str:
    """The models of the batches, by their first letters."""
    return "".join(prompts[0][0] for prompts in worker.engine.batches)


def test_one_ticket_serves_all_models_of_the_worker(redis: Redis) -> None:
    worker = worker_of(redis, "a", "b", "c", affinity_s=60)
    worker.engine.room = 3
    worker.accept(*batches_of("a", 2), *batches_of("b", 3), *batches_of("elsewhere", 1))
    worker.work()
    assert rendered(worker) == "ababb"
    assert worker.scheduler.queued() == {"a": 0, "b": 0, "elsewhere": BATCH_LIMIT}


@pytest.mark.parametrize(("affinity_s", "order"), [(0.0, "abababab"), (60.0, "abbbbaaa")])
def test_affinity_saves_loads_of_models_that_do_not_fit_together(redis: Redis, affinity_s: float, order: str) -> None:
    worker = worker_of(redis, "a", "b", affinity_s=affinity_s)
    worker.accept(*batches_of("a", 4), *batches_of("b", 4))
    worker.work()
    assert rendered(worker) == order
    assert "".join(worker.engine.loads) == ("abababab" if affinity_s == 0 else "aba")


def test_a_high_job_of_another_model_waits_until_the_turn_is_over_and_no_longer(redis: Redis) -> None:
    worker = worker_of(redis, "a", "b", affinity_s=3 * BATCH_S)
    worker.accept(*batches_of("b", 1))
    worker.work()
    worker.accept(*batches_of("a", 8, Priority.LOW))
    pass_time = worker.engine.at_step

    def visit(step: int) -> None:
        pass_time(step)
        if rendered(worker) == "baa" and step == 1:
            worker.accept(new_job(model="b", prompt="high", priority=Priority.HIGH))

    worker.engine.at_step = visit
    worker.work()
    assert rendered(worker) == "b" + 4 * "a" + "h" + 4 * "a"


def test_a_model_that_cannot_be_loaded_does_not_hold_up_the_others(redis: Redis) -> None:
    worker = worker_of(redis, "a", "broken", affinity_s=60)
    worker.engine.poison["broken"] = RuntimeError("no such file")
    ids = worker.accept(*batches_of("a", 2), new_job(model="broken", prompt="broken"))
    worker.work()
    assert [worker.status(id_) for id_ in ids] == ["succeeded"] * 2 * BATCH_LIMIT + ["failed"]

"""A batch with room left waits for more of its lane, if the catalog says so, and only while nobody else waits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from tests.scheduling import MODEL, let_pass, new_job
from tests.unit.worker.fakes import BATCH_LIMIT, RenderWorker, fake_model

LINGER_S = 1.0


class Clock:
    """Stands for `time` where the next batch is prepared. Something may happen while it sleeps."""

    def __init__(self) -> None:
        self.slept_s = 0.0
        #: What happens in which sleep.
        self.events: dict[int, Callable[[], object]] = {}
        self._sleeps = 0

    def monotonic(self) -> float:
        return self.slept_s

    def sleep(self, seconds: float) -> None:
        self.slept_s += seconds
        self._sleeps += 1
        self.events.get(self._sleeps, lambda: None)()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("worker.preparing.time", clock)
    return clock


@pytest.fixture
def worker(redis: Redis) -> RenderWorker:
    return RenderWorker(redis, fake_model(linger_s=LINGER_S), fake_model("other"))


def test_jobs_that_come_while_a_batch_lingers_join_it_and_all_their_leases_are_kept(
    worker: RenderWorker, clock: Clock
) -> None:
    kept: list[int] = []

    def come(prompt: str) -> None:
        kept.append(worker.keeper.kept)
        worker.accept(new_job(prompt=prompt))

    clock.events = {3: lambda: come("b"), 5: lambda: come("c")}
    ids = worker.accept(new_job(prompt="a"))
    worker.work()
    assert worker.engine.batches == [["a", "b", "c"]]
    assert kept == [1, 2]
    assert clock.slept_s == pytest.approx(LINGER_S, abs=0.02)
    assert worker.status(ids[0]) == "succeeded"


def test_a_batch_stops_lingering_when_it_is_full(worker: RenderWorker, clock: Clock) -> None:
    clock.events = {2: lambda: worker.accept(*(new_job(prompt=prompt) for prompt in "bcde"))}
    worker.accept(new_job(prompt="a"))
    worker.work()
    assert worker.engine.batches[0] == ["a", "b", "c", "d"]
    # The fifth one lingered on its own.
    assert worker.engine.batches[1:] == [["e"]]
    assert clock.slept_s == pytest.approx(2 * 0.02 + LINGER_S, abs=0.02)


def test_a_job_that_has_more_images_than_there_is_room_for_does_not_join(worker: RenderWorker, clock: Clock) -> None:
    clock.events = {2: lambda: worker.accept(new_job(prompt="large", n=3))}
    worker.accept(new_job(prompt="a", n=2))
    worker.work()
    assert worker.engine.batches == [["a"] * 2, ["large"] * 3]


def test_full_batches_do_not_linger(worker: RenderWorker, clock: Clock) -> None:
    worker.accept(*(new_job() for _ in range(BATCH_LIMIT)), new_job(n=BATCH_LIMIT), new_job(n=10))
    worker.work()
    assert clock.slept_s == 0


def test_without_the_option_no_batch_lingers(redis: Redis, clock: Clock) -> None:
    worker = RenderWorker(redis)
    worker.accept(new_job())
    worker.work()
    assert clock.slept_s == 0


@pytest.mark.parametrize(("model", "lane"), [("other", 4), (MODEL, 5)], ids=["another model", "another lane"])
def test_a_batch_lingers_no_longer_when_other_work_waits(
    worker: RenderWorker, clock: Clock, model: str, lane: int
) -> None:
    worker.accept(new_job(prompt="before"), new_job(model=model, lane=lane, prompt="waits"))
    slept_s: list[float] = []
    worker.engine.at_step = lambda _: slept_s.append(clock.slept_s)
    clock.events = {4: lambda: worker.accept(new_job(model=model, lane=lane, prompt="comes"))}
    worker.accept(new_job(prompt="too"))
    worker.work()
    assert worker.engine.batches[0] == ["before", "too"]
    assert slept_s[0] == 0, "work waited from the beginning"
    clock.slept_s, slept_s[:] = 0.0, []
    clock._sleeps = 0
    worker.accept(new_job(prompt="after"))
    worker.work()
    assert slept_s[0] == pytest.approx(4 * 0.02), "it came in the fourth sleep"


def test_a_worker_that_is_told_to_go_does_not_linger(worker: RenderWorker, clock: Clock) -> None:
    clock.events = {2: lambda: setattr(worker.renderer, "draining", True)}
    (id_,) = worker.accept(new_job())
    worker.work()
    assert clock.slept_s == pytest.approx(2 * 0.02)
    assert worker.status(id_) == "succeeded"


def test_a_job_that_lost_its_worker_neither_lingers_nor_joins(worker: RenderWorker, clock: Clock) -> None:
    (id_,) = worker.accept(new_job(prompt="to blame"))
    worker.scheduler.claim(MODEL, "dead", max_images=1)

    def come_back() -> None:
        let_pass(worker.redis, "leases", id_)
        worker.scheduler.sweep()

    clock.events = {3: come_back}
    worker.accept(new_job(prompt="a"))
    worker.work()
    assert worker.engine.batches == [["a"], ["to blame"]]
    assert clock.slept_s == pytest.approx(3 * 0.02)

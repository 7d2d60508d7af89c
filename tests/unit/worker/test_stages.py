"""The device renders while what it rendered before is encoded and stored; and its idle time is told as it is."""

from __future__ import annotations

import threading

import pytest
from prometheus_client import REGISTRY
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.scheduling import MODEL, new_job
from tests.servers import PATIENCE_S
from tests.unit.worker.fakes import BATCH_LIMIT, Failing, RenderWorker, fake_model


def test_the_next_batch_is_rendered_while_the_one_before_is_stored(
    worker: RenderWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No picture of a batch but the last is stored before the rendering of the next one has begun."""
    batches = 4
    worker.accept(*(new_job() for _ in range(batches * BATCH_LIMIT)))
    begun = [threading.Event() for _ in range(batches)]
    put = worker.storage.put
    batch_of: dict[str, int] = {}
    overlapped: list[bool] = []

    def render_began(_: int) -> None:
        number = len(worker.engine.batches) - 1
        for id_ in worker.redis.zrange("rm:leases", 0, -1):
            batch_of.setdefault(id_, number)
        begun[number].set()

    def put_once_the_next_began(key: str, data: bytes, content_type: str) -> None:
        following = batch_of[key.split("/")[2].split("-")[0]] + 1
        if following < batches:
            overlapped.append(begun[following].wait(PATIENCE_S))
        put(key, data, content_type)

    worker.engine.at_step = render_began
    monkeypatch.setattr(worker.storage, "put", put_once_the_next_began)
    tickets = [threading.Thread(target=worker.renderer.work) for _ in range(2)]
    for ticket in tickets:
        ticket.start()
    for ticket in tickets:
        ticket.join(PATIENCE_S)
    assert overlapped == [True] * (batches - 1) * BATCH_LIMIT
    assert len(worker.storage.objects) == batches * BATCH_LIMIT


def idle() -> tuple[float, float]:
    """How often the device was idle although work waited, and how many seconds."""
    name, labels = "rendermill_device_idle_seconds", {"model": MODEL}
    return tuple(REGISTRY.get_sample_value(f"{name}_{part}", labels) or 0.0 for part in ("count", "sum"))  # type: ignore[return-value]


class Time:
    """Stands for `time` where the renderer uses it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr("worker.render.time", time)
    return time


def test_the_device_is_idle_from_the_end_of_a_batch_to_the_beginning_of_the_next_while_work_waits(
    worker: RenderWorker, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    def takes(seconds: float) -> None:
        time.now += seconds

    before_count, before_s = idle()
    worker.engine.at_step = lambda _: takes(100)
    put = worker.storage.put
    # With one ticket alone, the device waits for the four pictures of the first batch.
    monkeypatch.setattr(worker.storage, "put", lambda *picture: (takes(2), put(*picture)))
    worker.accept(*(new_job() for _ in range(BATCH_LIMIT + 1)))
    worker.work()
    assert idle() == (before_count + 1, before_s + 2 * BATCH_LIMIT)
    takes(1000)
    worker.accept(new_job())
    worker.work()
    assert idle() == (before_count + 1, before_s + 2 * BATCH_LIMIT), "nothing waited behind the batch before"


def test_the_device_is_not_idle_where_another_worker_took_what_waited(
    worker: RenderWorker, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = idle()
    worker.accept(*(new_job() for _ in range(BATCH_LIMIT + 1)))
    monkeypatch.setattr(worker.waker, "after_claim", lambda _: worker.scheduler.claim(MODEL, "another", max_images=1))
    worker.work()
    time.now += 3600
    worker.accept(new_job())
    worker.work()
    assert idle() == before


def test_the_device_is_idle_while_redis_is_away_from_a_worker_whose_work_waits(
    worker: RenderWorker, time: Time
) -> None:
    count, seconds = idle()
    worker.accept(*(new_job() for _ in range(BATCH_LIMIT)))
    worker.work()
    worker.accept(*(new_job() for _ in range(BATCH_LIMIT + 1)))
    scheduler = worker.renderer._scheduler
    worker.engine.at_step = lambda _: setattr(
        worker.renderer, "_scheduler", Failing(scheduler, "claim_first", RedisConnectionError("away"), 1)
    )
    worker.work()
    time.now += 60
    worker.work()
    assert idle() == (count + 1, seconds + 60)


def test_a_device_whose_batch_lingers_is_not_idle(redis: Redis, time: Time) -> None:
    count, seconds = idle()
    worker = RenderWorker(redis, fake_model(linger_s=10.0))
    worker.accept(*(new_job() for _ in range(BATCH_LIMIT + 1)))
    worker.work()
    assert time.now == pytest.approx(10.0, abs=0.02)
    assert idle() == (count + 1, pytest.approx(seconds))

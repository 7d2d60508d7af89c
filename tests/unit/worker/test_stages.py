"""The device renders while what it rendered before is encoded and stored; and its idle time is told as it is."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import replace

import PIL.Image
import pytest
from prometheus_client import REGISTRY
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.scheduling import MODEL, new_job
from tests.servers import PATIENCE_S, wait_until
from tests.unit.worker.fakes import BATCH_LIMIT, STEPS, Failing, RenderWorker, fake_model


def work_by_two_tickets(worker: RenderWorker) -> None:
    tickets = [threading.Thread(target=worker.renderer.work) for _ in range(2)]
    for ticket in tickets:
        ticket.start()
    for ticket in tickets:
        ticket.join(PATIENCE_S)


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
    work_by_two_tickets(worker)
    assert overlapped == [True] * (batches - 1) * BATCH_LIMIT
    assert len(worker.storage.objects) == batches * BATCH_LIMIT


def test_the_next_batch_is_claimed_and_has_its_input_images_before_the_device_is_free(worker: RenderWorker) -> None:
    """As soon as it is known how long such a batch takes: that is, behind the second one of its kind."""
    picture = io.BytesIO()
    PIL.Image.new("RGB", (8, 8)).save(picture, "PNG")
    worker.storage.objects["inputs/fox"] = picture.getvalue()
    jobs = [new_job(n=BATCH_LIMIT) for _ in range(3)]
    worker.accept(*(replace(job, request=replace(job.request, input_image="inputs/fox")) for job in jobs))
    fetched_when_made: list[int] = []

    def make_the_first_slowly_and_wait_in_the_second(step: int) -> None:
        if step == STEPS:
            fetched_when_made.append(worker.storage.gets)
        elif len(worker.engine.batches) == 1:
            time.sleep(0.05)
        elif len(worker.engine.batches) == 2:
            wait_until(lambda: worker.storage.gets == 3, "the third batch is prepared")

    worker.engine.resident = [MODEL]
    worker.engine.at_step = make_the_first_slowly_and_wait_in_the_second
    work_by_two_tickets(worker)
    assert fetched_when_made == [1, 3, 3]
    assert {worker.status(job.id) for job in jobs} == {"succeeded"}


def test_a_batch_prepared_for_a_device_that_is_lost_meanwhile_is_given_back_at_no_cost(worker: RenderWorker) -> None:
    jobs = [new_job(n=BATCH_LIMIT) for _ in range(3)]
    worker.accept(*jobs)
    worker.engine.resident = [MODEL]

    def lose(_: int) -> None:
        if len(worker.engine.batches) == 1:
            time.sleep(0.05)
        else:
            wait_until(lambda: worker.keeper.kept >= 2, "the third is prepared")
            worker.engine.device_lost = True
            raise RuntimeError("the device is lost")

    worker.engine.at_step = lose
    work_by_two_tickets(worker)
    assert [worker.status(job.id) for job in jobs] == ["succeeded", "running", "queued"]
    assert worker.job(jobs[2].id).attempts == 0


def idle() -> tuple[float, float]:
    """How often the device was idle although work waited, and how many seconds."""
    name, labels = "rendermill_device_idle_seconds", {"model": MODEL}
    return tuple(REGISTRY.get_sample_value(f"{name}_{part}", labels) or 0.0 for part in ("count", "sum"))  # type: ignore[return-value]


class FakeTime:
    """Stands for `time` where the renderer uses it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    clock = FakeTime()
    for module in ("render", "preparing", "device"):
        monkeypatch.setattr(f"worker.{module}.time", clock)
    return clock


def test_the_device_is_idle_from_the_end_of_a_batch_to_the_beginning_of_the_next_while_work_waits(
    worker: RenderWorker, clock: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def takes(seconds: float) -> None:
        clock.now += seconds

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
    worker: RenderWorker, clock: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = idle()
    worker.accept(*(new_job() for _ in range(BATCH_LIMIT + 1)))
    monkeypatch.setattr(worker.waker, "after_claim", lambda _: worker.scheduler.claim(MODEL, "another", max_images=1))
    worker.work()
    clock.now += 3600
    worker.accept(new_job())
    worker.work()
    assert idle() == before


def test_the_device_is_idle_while_redis_is_away_from_a_worker_whose_work_waits(
    worker: RenderWorker, clock: FakeTime
) -> None:
    count, seconds = idle()
    worker.accept(*(new_job() for _ in range(BATCH_LIMIT)))
    worker.work()
    worker.accept(*(new_job() for _ in range(BATCH_LIMIT + 1)))
    preparer = worker.renderer._preparer
    failing = Failing(preparer._scheduler, "claim_first", RedisConnectionError("away"), 1)
    worker.engine.at_step = lambda _: setattr(preparer, "_scheduler", failing)
    worker.work()
    clock.now += 60
    worker.work()
    assert idle() == (count + 1, seconds + 60)


def test_a_device_whose_batch_lingers_is_not_idle(redis: Redis, clock: FakeTime) -> None:
    count, seconds = idle()
    worker = RenderWorker(redis, fake_model(linger_s=10.0))
    worker.accept(*(new_job() for _ in range(BATCH_LIMIT + 1)))
    worker.work()
    assert clock.now == pytest.approx(10.0, abs=0.02)
    assert idle() == (count + 1, pytest.approx(seconds))

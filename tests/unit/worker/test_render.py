"""From ticket to picture, and all that goes wrong on the way."""

from __future__ import annotations

import io
import threading
from dataclasses import replace

import PIL.Image
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.errors import JobFailure
from shared.images import Images
from shared.jobs import JobStatus, NewJob
from shared.models import Mode
from shared.scheduler import Scheduler
from tests.scheduling import MODEL, let_pass, new_job
from tests.servers import PATIENCE_S, wait_until
from tests.unit.worker.fakes import PROVENANCE, STEPS, Failing, RenderWorker

ALWAYS = float("inf")


def named(*prompts: str) -> list[NewJob]:
    return [new_job(prompt=prompt) for prompt in prompts]


def with_input(key: str) -> NewJob:
    job = new_job()
    request = replace(job.request, mode=Mode.IMAGE_TO_IMAGE, strength=0.5, input_image=key)
    return replace(job, request=request)


def lose(worker: RenderWorker, job_id: str) -> None:
    """Let the job's lease end, as if its worker had stood still."""
    let_pass(worker.redis, "leases", job_id)
    worker.scheduler.sweep()


def test_a_batch_holds_as_many_jobs_as_fit_and_a_ticket_is_published_for_the_rest(worker: RenderWorker) -> None:
    ids = worker.accept(*named("a", "b", "c", "d", "e"))
    worker.work()
    assert worker.engine.batches == [["a", "b", "c", "d"], ["e"]]
    assert {worker.status(id_) for id_ in ids} == {"succeeded"}
    assert worker.sent == [f"render.{MODEL}"], "it lies there until somebody takes it"


def test_the_webhook_of_a_finished_job_goes_out_without_waiting_for_upkeep(worker: RenderWorker) -> None:
    worker.accept(new_job(webhook_url="https://receiver.example/hook"))
    worker.work()
    assert worker.wake_ups == 1


def test_a_finished_job_names_pictures_that_are_stored_each_with_its_seed(worker: RenderWorker, redis: Redis) -> None:
    (id_,) = worker.accept(new_job(n=3))
    worker.work()
    job = worker.job(id_)
    assert job.provenance == PROVENANCE
    images = Images(redis).read(job.images)
    assert [images[image].seed for image in job.images] == [1, 2, 3]
    assert {images[image].key for image in job.images} == worker.storage.objects.keys()
    for image in images.values():
        assert image.size == len(worker.storage.objects[image.key])
        assert PIL.Image.open(io.BytesIO(worker.storage.objects[image.key])).size == (8, 8)


def test_each_job_of_a_batch_has_its_own_warnings_after_those_it_came_with(worker: RenderWorker) -> None:
    rounded = replace(new_job(prompt="one"), warnings=("it was rounded",))
    first, second = worker.accept(rounded, new_job(prompt="two", n=2))
    worker.work()
    assert worker.engine.batches == [["one", "two", "two"]]
    assert worker.job(first).warnings == ["it was rounded", "one is too long"]
    assert worker.job(second).warnings == ["two is too long"]


def test_a_job_with_more_images_than_a_batch_holds_is_rendered_alone(worker: RenderWorker) -> None:
    ids = worker.accept(new_job(n=10, prompt="many"), new_job(prompt="one"))
    worker.work()
    assert worker.engine.batches == [["many"] * 10, ["one"]]
    images = Images(worker.redis).read(worker.job(ids[0]).images)
    assert [image.seed for image in images.values()] == list(range(1, 11))


def test_the_progress_of_a_batch_that_is_rendered_anew_in_halves_does_not_go_back(worker: RenderWorker) -> None:
    ids = worker.accept(*named("a", "b"))
    told: list[float] = []

    def fail_at_the_end_of_the_whole(step: int) -> None:
        worker.keeper.renew()
        told.append(worker.job(ids[1]).progress)
        if step == STEPS and len(worker.engine.batches) == 1:
            raise JobFailure("render_failed", "too large")

    worker.engine.at_step = fail_at_the_end_of_the_whole
    worker.work()
    assert worker.engine.batches == [["a", "b"], ["a"], ["b"]]
    assert told == sorted(told)
    assert told[STEPS] > 0


@pytest.mark.parametrize("error", [RuntimeError("bug"), JobFailure("render_failed", "bug"), MemoryError()])
def test_one_poisonous_job_of_a_batch_fails_and_the_others_succeed(worker: RenderWorker, error: Exception) -> None:
    ids = worker.accept(*named("a", "poison", "c", "d"))
    worker.engine.poison["poison"] = error
    worker.work()
    assert [worker.status(id_) for id_ in ids] == ["succeeded", "failed", "succeeded", "succeeded"]
    assert (worker.job(ids[1]).error or {})["code"] == "render_failed"


def test_a_model_that_cannot_be_loaded_fails_its_batch_without_trying_halves(worker: RenderWorker) -> None:
    ids = worker.accept(*named("a", "b"))
    worker.engine.poison["b"] = JobFailure("model_unavailable", "no checkpoint")
    worker.work()
    assert [worker.status(id_) for id_ in ids] == ["failed", "failed"]
    assert len(worker.engine.batches) == 1


def test_a_job_called_off_in_a_batch_ends_and_the_others_go_on(worker: RenderWorker) -> None:
    ids = worker.accept(*named("a", "b", "c"))

    def call_off(step: int) -> None:
        if step == 2:
            worker.scheduler.cancel(ids[1], "alice")
        worker.keeper.renew()

    worker.engine.at_step = call_off
    worker.work()
    assert [worker.status(id_) for id_ in ids] == ["succeeded", "canceled", "succeeded"]
    assert worker.engine.steps_made == STEPS
    assert not [key for key in worker.storage.objects if ids[1] in key]


def test_a_job_called_off_alone_stops_at_the_next_step_and_the_worker_goes_on(worker: RenderWorker) -> None:
    ids = worker.accept(*named("a"))

    def call_off(step: int) -> None:
        if step == 2:
            worker.scheduler.cancel(ids[0], "alice")
            worker.keeper.renew()

    worker.engine.at_step = call_off
    worker.work()
    assert worker.status(ids[0]) == "canceled"
    assert worker.engine.steps_made == 2
    (second,) = worker.accept(*named("b"))
    worker.work()
    assert worker.status(second) == "succeeded"


def test_a_job_called_off_after_its_last_renewal_is_not_finished(worker: RenderWorker) -> None:
    (id_,) = worker.accept(*named("a"))
    worker.engine.at_step = lambda _: worker.scheduler.cancel(id_, "alice")
    worker.work()
    assert worker.status(id_) == "canceled"
    assert worker.redis.sismember("rm:litter", id_)


def test_a_lost_lease_stops_the_rendering(worker: RenderWorker) -> None:
    (id_,) = worker.accept(*named("a"))

    def lose_it(step: int) -> None:
        if step == 1:
            lose(worker, id_)
            worker.keeper.renew()

    worker.engine.at_step = lose_it
    worker.work()
    assert worker.engine.steps_made == 1
    assert worker.status(id_) == "queued"


def test_the_pictures_of_a_worker_that_lost_its_lease_unawares_are_litter(worker: RenderWorker) -> None:
    (id_,) = worker.accept(*named("a"))
    worker.engine.at_step = lambda step: lose(worker, id_) if step == STEPS else None
    worker.work()
    assert worker.status(id_) == "queued"
    assert worker.redis.sismember("rm:litter", id_)


def test_pictures_stored_before_the_loss_was_seen_are_litter(
    worker: RenderWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (id_,) = worker.accept(new_job(n=3))
    put = worker.storage.put

    def put_and_lose(key: str, data: bytes, content_type: str) -> None:
        put(key, data, content_type)
        lose(worker, id_)
        worker.redis.delete("rm:litter")  # as if it had been swept already
        worker.keeper.renew()

    monkeypatch.setattr(worker.storage, "put", put_and_lose)
    worker.work()
    assert len(worker.storage.objects) == 1
    assert worker.redis.sismember("rm:litter", id_)


def test_a_picture_that_cannot_be_encoded_fails_its_job_alone(
    worker: RenderWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = worker.accept(*named("a", "b"))
    from worker.encoding import encode

    def broken(picture: PIL.Image.Image, request: object, seed: int) -> bytes:
        if request.prompt == "a":
            raise ValueError("EXIF data is too long")
        return encode(picture, request, seed)

    monkeypatch.setattr("worker.storing.encode", broken)
    worker.work()
    assert [worker.status(id_) for id_ in ids] == ["failed", "succeeded"]


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_an_input_image_that_cannot_be_decoded_fails_its_job_at_once(worker: RenderWorker, data: bytes) -> None:
    worker.storage.objects["inputs/x"] = data
    (id_,) = worker.accept(with_input("inputs/x"))
    worker.work()
    assert (worker.job(id_).error or {})["code"] == "invalid_input"


def test_a_missing_input_image_fails_its_job_at_once(worker: RenderWorker) -> None:
    (id_,) = worker.accept(with_input("inputs/gone"))
    worker.work()
    assert (worker.job(id_).error or {})["code"] == "invalid_input"
    assert worker.storage.calls == 1


def test_storage_that_is_away_for_a_moment_is_waited_for(worker: RenderWorker) -> None:
    picture = io.BytesIO()
    PIL.Image.new("RGB", (8, 8)).save(picture, "PNG")
    worker.storage.objects["inputs/x"] = picture.getvalue()
    ids = worker.accept(with_input("inputs/x"), new_job())
    worker.storage.away = 2
    worker.work()
    worker.storage.away = 2
    worker.work()
    assert [worker.job(id_).attempts for id_ in ids] == [1, 1]
    assert [worker.status(id_) for id_ in ids] == ["succeeded", "succeeded"]


def test_storage_that_stays_away_gives_the_job_to_another_attempt(worker: RenderWorker) -> None:
    ids = worker.accept(*named("a", "b"))
    worker.storage.away = ALWAYS
    worker.work()
    assert [worker.job(id_).stage for id_ in ids] == ["retrying", "retrying"]


def test_no_job_is_claimed_until_storage_is_back(worker: RenderWorker) -> None:
    worker.accept(*named("a"))
    worker.storage.away = ALWAYS
    worker.work()
    (second,) = worker.accept(*named("b"))
    ticket = threading.Thread(target=worker.work)
    ticket.start()
    calls = worker.storage.calls
    wait_until(lambda: worker.storage.calls > calls + 2, "storage is asked again")
    assert worker.status(second) == "queued"
    worker.storage.away = 0
    ticket.join(PATIENCE_S)
    assert worker.status(second) == "succeeded"


def test_a_worker_that_waits_for_storage_can_be_told_to_go(worker: RenderWorker) -> None:
    ids = worker.accept(*named("a"))
    worker.storage.away = ALWAYS
    worker.work()
    let_pass(worker.redis, "delayed", ids[0])
    worker.scheduler.sweep()
    ticket = threading.Thread(target=worker.work)
    ticket.start()
    worker.renderer.draining = True
    ticket.join(PATIENCE_S)
    assert not ticket.is_alive()
    assert worker.status(ids[0]) == "queued"


def test_a_worker_that_must_go_gives_its_jobs_back_without_charging_an_attempt(worker: RenderWorker) -> None:
    ids = worker.accept(*named("a", "b"))
    worker.engine.at_step = lambda step: worker.renderer.drain() if step == 2 else None
    worker.work()
    assert [worker.status(id_) for id_ in ids] == ["queued", "queued"]
    assert [worker.job(id_).attempts for id_ in ids] == [0, 0]
    assert worker.engine.steps_made == 2


def test_a_draining_worker_claims_nothing(worker: RenderWorker) -> None:
    ids = worker.accept(*named("a"))
    worker.renderer.draining = True
    worker.work()
    assert worker.status(ids[0]) == "queued"


def test_what_is_rendered_when_the_worker_is_told_to_go_is_stored(worker: RenderWorker) -> None:
    ids = worker.accept(*named("a", "b"))
    worker.engine.at_step = lambda _: setattr(worker.renderer, "draining", True)
    worker.work()
    assert [worker.status(id_) for id_ in ids] == ["succeeded", "succeeded"]


def test_a_claim_without_redis_ends_the_ticket_quietly(worker: RenderWorker) -> None:
    ids = worker.accept(*named("a"))
    worker.renderer._preparer._scheduler = Failing(worker.scheduler, "claim_first", RedisConnectionError("away"), 1)
    worker.work()
    assert worker.status(ids[0]) == "queued"
    worker.work()
    assert worker.status(ids[0]) == "succeeded"


@pytest.mark.parametrize("verdict", ["complete", "fail"])
def test_a_verdict_is_told_again_until_redis_answers(worker: RenderWorker, verdict: str) -> None:
    ids = worker.accept(*named("a", "poison"))
    worker.engine.poison["poison"] = RuntimeError("bug")
    worker.renderer._outcomes._scheduler = Failing(worker.scheduler, verdict, RedisConnectionError("away"), 2)
    worker.work()
    assert [worker.status(id_) for id_ in ids] == ["succeeded", "failed"]


def test_a_verdict_that_cannot_be_told_costs_the_others_nothing(worker: RenderWorker) -> None:
    ids = worker.accept(*named("a", "b"))

    class Deaf:
        def __init__(self, scheduler: Scheduler) -> None:
            self._scheduler = scheduler

        def complete(self, lease: object, **arguments: object) -> bool:
            if lease.id == ids[0]:
                raise RedisConnectionError("away")
            return self._scheduler.complete(lease, **arguments)

    worker.outcomes._scheduler = Deaf(worker.scheduler)
    worker.work()
    assert [worker.status(id_) for id_ in ids] == ["running", "succeeded"]
    lose(worker, ids[0])
    worker.outcomes._scheduler = worker.scheduler
    worker.work()
    assert worker.status(ids[0]) == "succeeded"


def test_a_broker_that_refuses_tickets_costs_no_job(worker: RenderWorker) -> None:
    ids = worker.accept(*named("a", "b", "c", "d", "e"))
    worker.waker._tickets = Failing(worker.waker._tickets, "pass_on", OSError("refused"), ALWAYS)
    worker.work()
    assert [worker.status(id_) for id_ in ids[:4]] == ["succeeded"] * 4


def test_jobs_on_a_device_that_is_lost_are_left_to_the_sweeper_and_rendered_alone(worker: RenderWorker) -> None:
    ids = worker.accept(*named("a", "b"))

    def lose_device(_: int) -> None:
        worker.engine.device_lost = True
        raise JobFailure("worker_lost", "the device fell off the bus")

    worker.engine.at_step = lose_device
    worker.work()
    assert [worker.status(id_) for id_ in ids] == ["running", "running"]
    (third,) = worker.accept(*named("c"))
    worker.work()
    assert worker.status(third) == "queued"
    for id_ in ids:
        lose(worker, id_)
    restarted = RenderWorker(worker.redis)
    restarted.work()
    assert restarted.engine.batches == [["a"], ["b"], ["c"]]


def test_the_device_is_silent_only_while_the_engine_works(worker: RenderWorker) -> None:
    worker.accept(*named("a"))
    silence: list[float] = []
    worker.engine.at_step = lambda _: silence.append(worker.renderer.device_silent_s)
    worker.work()
    assert all(seconds > 0 for seconds in silence)
    assert worker.renderer.device_silent_s == 0


def test_a_failure_reported_for_a_lost_lease_is_litter(worker: RenderWorker) -> None:
    (id_,) = worker.accept(*named("a"))
    lease = worker.scheduler.claim(MODEL, "worker-1", max_images=1).leases[0]
    lose(worker, id_)
    with worker.keeper.keep([lease]) as (hold,):
        worker.outcomes.fail(hold, JobFailure("render_failed", "late"))
    assert worker.status(id_) is JobStatus.QUEUED
    assert worker.redis.sismember("rm:litter", id_)

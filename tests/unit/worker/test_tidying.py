"""What is cleared away, and what stays."""

from __future__ import annotations

import json
import time
from typing import cast

import pytest
from redis import Redis

from shared.deliveries import Deliveries
from shared.errors import RendermillError
from shared.files import File, Files
from shared.ids import new_id
from shared.images import Image, Images
from shared.outputs import output_key
from shared.records import Records
from shared.storage import Storage, StorageError
from shared.unclaimed import Unclaimed
from shared.workers import Worker, Workers
from tests.scheduling import MODEL, let_pass, new_job
from tests.unit.worker.fakes import FakeStorage, RenderWorker
from worker.litter import Litter
from worker.tidying import Tidier

DAY = 86400.0


def tidier(redis: Redis, storage: FakeStorage, retention_s: float = DAY) -> Tidier:
    return Tidier(redis, deliveries=Deliveries(redis), storage=cast(Storage, storage), retention_s=retention_s)


def finished(worker: RenderWorker, n: int = 2) -> str:
    """The id of a job that succeeded, with input images."""
    (id_,) = worker.accept(new_job(n=n))
    worker.work()
    worker.storage.objects[f"inputs/{id_}/image.png"] = b"input"
    return id_


def grow_old(redis: Redis, id_: str) -> None:
    index = "rm:retained" if id_.startswith("job_") else "rm:retained_uploads"
    redis.zadd(index, {id_: (time.time() - 2 * DAY) * 1000}, xx=True)


def code(call: object, *arguments: str) -> str:
    with pytest.raises(RendermillError) as caught:
        call(*arguments)
    return caught.value.code


def test_objects_of_losing_attempts_are_swept_and_the_winners_stay(worker: RenderWorker, redis: Redis) -> None:
    (id_,) = worker.accept(new_job(n=2))
    (lost,) = worker.scheduler.claim(MODEL, "zombie", max_images=2).leases
    let_pass(redis, "leases", id_)
    worker.scheduler.sweep()
    worker.work()
    winners = set(worker.storage.objects)
    worker.storage.objects |= {output_key(id_, lost.attempt, number, "jpeg"): b"late" for number in range(2)}
    tidier(redis, worker.storage).tidy()
    assert set(worker.storage.objects) == winners
    assert worker.status(id_) == "succeeded"


def test_objects_of_a_job_that_is_not_finished_are_left_until_it_is(worker: RenderWorker, redis: Redis) -> None:
    (id_,) = worker.accept(new_job())
    worker.storage.objects[output_key(id_, 1, 0, "jpeg")] = b"stored by attempt 1, which may still win"
    Litter(redis).note(id_)
    tidier(redis, worker.storage).tidy()
    assert worker.storage.objects
    worker.scheduler.cancel(id_, "alice")
    tidier(redis, worker.storage).tidy()
    assert not worker.storage.objects


def test_a_sweep_that_was_cut_short_is_completed_by_the_next(worker: RenderWorker, redis: Redis) -> None:
    (id_,) = worker.accept(new_job())
    worker.scheduler.cancel(id_, "alice")
    worker.storage.objects[output_key(id_, 1, 0, "jpeg")] = b"left"
    Litter(redis).note(id_)
    worker.storage.away = 1
    with pytest.raises(StorageError):
        Litter(redis).sweep(cast(Storage, worker.storage))
    Litter(redis).sweep(cast(Storage, worker.storage))
    assert not worker.storage.objects
    assert not redis.exists("rm:litter", "rm:litter_open")


def test_past_its_retention_everything_of_a_job_goes_and_its_ids_answer_gone(
    worker: RenderWorker, redis: Redis
) -> None:
    old, young = finished(worker), finished(worker)
    images = worker.job(old).images
    grow_old(redis, old)
    tidier(redis, worker.storage).tidy()
    assert not [key for key in worker.storage.objects if old in key]
    assert code(Records(redis).get, old, "alice") == "gone"
    assert [code(Images(redis).get, image, "alice") for image in images] == ["gone", "gone"]
    assert code(Records(redis).get, old, "mallory") == "not_found"
    assert not [key for key in redis.scan_iter(f"*{old}*") if not key.startswith("rm:gone:")]
    assert len(worker.job(young).images) == 2
    assert [image.job_id for image in Images(redis).page("alice", take=10, start=None).images] == [young, young]


def test_pictures_that_an_earlier_release_stored_elsewhere_go_with_their_job(
    worker: RenderWorker, redis: Redis
) -> None:
    id_ = finished(worker, n=1)
    (image,) = worker.job(id_).images
    record = json.loads(redis.get(f"rm:image:{image}") or "")
    worker.storage.objects[f"outputs/{id_}/1/0.jpeg"] = worker.storage.objects.pop(record["key"])
    redis.set(f"rm:image:{image}", json.dumps(record | {"key": f"outputs/{id_}/1/0.jpeg"}))
    grow_old(redis, id_)
    tidier(redis, worker.storage).tidy()
    assert not worker.storage.objects


def test_a_removal_that_was_cut_short_is_completed_by_the_next(worker: RenderWorker, redis: Redis) -> None:
    id_ = finished(worker)
    grow_old(redis, id_)
    delete = worker.storage.delete

    def half(keys: object) -> None:
        delete(list(keys)[:1])
        raise StorageError("connection lost")

    worker.storage.delete = half
    tidier(redis, worker.storage).tidy()
    assert worker.job(id_).status == "succeeded", "the record stays until the objects are gone"
    worker.storage.delete = delete
    tidier(redis, worker.storage).tidy()
    assert not worker.storage.objects
    assert code(Records(redis).get, id_) == "gone"


def test_one_object_that_cannot_be_removed_does_not_keep_the_younger_ones(worker: RenderWorker, redis: Redis) -> None:
    first, second = finished(worker), finished(worker)
    for id_ in (first, second):
        grow_old(redis, id_)
    worker.storage.undeletable.add(f"inputs/{first}/image.png")
    tidier(redis, worker.storage).tidy()
    assert worker.job(first).id == first
    assert code(Records(redis).get, second) == "gone"


def test_more_than_a_page_is_removed_in_one_round(
    worker: RenderWorker, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.tidying._PAGE", 2)
    ids = [finished(worker, n=1) for _ in range(5)]
    for id_ in ids:
        grow_old(redis, id_)
    tidier(redis, worker.storage).tidy()
    assert [code(Records(redis).get, id_) for id_ in ids] == ["gone"] * 5


def test_old_uploads_go_and_young_ones_stay(worker: RenderWorker, redis: Redis) -> None:
    images = Images(redis)
    ids = []
    for name in ("old", "young"):
        image = Image(
            id=new_id("image"),
            account="alice",
            name=name,
            key=f"uploads/{name}.png",
            width=8,
            height=8,
            format="png",
            size=1,
            created_at=time.time(),
        )
        images.add(image)
        worker.storage.objects[image.key] = b"x"
        ids.append(image.id)
    grow_old(redis, ids[0])
    tidier(redis, worker.storage).tidy()
    assert list(worker.storage.objects) == ["uploads/young.png"]
    assert code(images.get, ids[0], "alice") == "gone"
    assert images.get(ids[1], "alice").name == "young"


def test_a_retention_of_zero_keeps_everything(worker: RenderWorker, redis: Redis) -> None:
    id_ = finished(worker)
    grow_old(redis, id_)
    tidier(redis, worker.storage, retention_s=0).tidy()
    assert len(worker.job(id_).images) == 2


def test_workers_that_stopped_beating_are_forgotten(worker: RenderWorker, redis: Redis) -> None:
    workers = Workers(redis)
    workers.beat(Worker(id="living", models=[], device="cpu", state="idle"))
    redis.hset("rm:workers", "dead", '{"id": "dead", "models": [], "device": "cpu", "state": "idle", "beat_at": 1}')
    tidier(redis, worker.storage).tidy()
    assert redis.hkeys("rm:workers") == ["living"]


def test_tidying_twice_at_once_is_harmless(worker: RenderWorker, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = finished(worker)
    grow_old(redis, id_)
    other = tidier(redis, worker.storage)
    keys = worker.storage.keys

    def tidied_meanwhile(prefix: str) -> list[str]:
        found = keys(prefix)
        monkeypatch.setattr(worker.storage, "keys", keys)
        other.tidy()
        return found

    monkeypatch.setattr(worker.storage, "keys", tidied_meanwhile)
    tidier(redis, worker.storage).tidy()
    assert not worker.storage.objects
    assert code(Records(redis).get, id_) == "gone"


# ── Objects whose record never came ──


def note(redis: Redis, storage: FakeStorage, key: str, age_s: float = 2 * DAY) -> None:
    """Note and store an object, as one does who dies afterwards."""
    Unclaimed(redis).note(key)
    redis.zadd("rm:unclaimed", {key: time.time() - age_s}, xx=True)
    storage.objects[key + ("image.png" if key.endswith("/") else "")] = b"stored"


def test_objects_whose_record_never_came_are_removed_a_day_later(worker: RenderWorker, redis: Redis) -> None:
    for key in (f"inputs/{new_id('job')}/", f"files/{new_id('file')}", f"uploads/{new_id('image')}.png"):
        note(redis, worker.storage, key)
    young = f"inputs/{new_id('job')}/"
    note(redis, worker.storage, young, age_s=DAY / 2)
    tidier(redis, worker.storage).tidy()
    assert set(worker.storage.objects) == {f"{young}image.png"}
    assert redis.zrange("rm:unclaimed", 0, -1) == [young]


def test_all_of_them_are_removed_in_one_round_but_those_that_cannot_be(
    worker: RenderWorker, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.tidying._PAGE", 2)
    keys = [f"files/{new_id('file')}" for _ in range(4)]
    for age, key in enumerate(keys):
        note(redis, worker.storage, key, age_s=(9 - age) * DAY)
    worker.storage.undeletable.add(keys[3])
    tidier(redis, worker.storage).tidy()
    assert list(worker.storage.objects) == [keys[3]]
    assert redis.zrange("rm:unclaimed", 0, -1) == [keys[3]]


def test_objects_whose_record_came_stay_and_are_looked_at_no_more(worker: RenderWorker, redis: Redis) -> None:
    (job_id,) = worker.accept(new_job())
    file = File(
        id=new_id("file"), account="alice", filename="a", purpose="batch", bytes=1, created_at=1.0, expires_at=None
    )
    Files(redis).add(file)
    image = Image(
        id=(image_id := new_id("image")),
        account="alice",
        name="fox",
        key=f"uploads/{image_id}.png",
        width=8,
        height=8,
        format="png",
        size=1,
        created_at=time.time(),
    )
    Images(redis).add(image)
    for key in (f"inputs/{job_id}/", file.key, image.key):
        note(redis, worker.storage, key)
    before = set(worker.storage.objects)
    tidier(redis, worker.storage).tidy()
    assert set(worker.storage.objects) == before
    assert not redis.exists("rm:unclaimed")

"""Files and batches past their time are cleared away, unless they are needed."""

from __future__ import annotations

import time

import pytest
from redis import Redis

from shared.batches import Batches
from shared.errors import RendermillError
from shared.files import File, Files, file_key
from shared.jobs import Priority
from tests.memory_storage import MemoryStorage
from worker.file_tidying import FileTidier

DAY = 86400.0


def add_file(redis: Redis, storage: MemoryStorage, id_: str, expires_at: float | None) -> None:
    storage.objects[file_key(id_)] = b"{}"
    file = File(
        id=id_, account="alice", filename="x", purpose="batch", bytes=2, created_at=time.time(), expires_at=expires_at
    )
    Files(redis).add(file)


def tidy(redis: Redis, storage: MemoryStorage) -> None:
    FileTidier(files=Files(redis), batches=Batches(redis), storage=storage, retention_s=DAY).tidy()


def add_batch(redis: Redis, file_id: str) -> str:
    batch_id, _ = Batches(redis).create(
        "alice",
        input_file=file_id,
        endpoint="/v1/jobs",
        window="24h",
        window_s=DAY,
        priority=Priority.LOW,
        metadata=None,
    )
    return batch_id


def test_a_file_past_its_time_goes_and_the_others_stay(redis: Redis) -> None:
    storage = MemoryStorage()
    for id_, expires_at in (("file_old", time.time() - 1), ("file_new", time.time() + 60), ("file_kept", None)):
        add_file(redis, storage, id_, expires_at)
    tidy(redis, storage)
    assert set(storage.objects) == {"files/file_new", "files/file_kept"}
    assert [file.id for file in Files(redis).read(["file_old", "file_new", "file_kept"])] == ["file_new", "file_kept"]


def test_a_file_that_a_batch_needs_outlives_its_time(redis: Redis) -> None:
    storage = MemoryStorage()
    add_file(redis, storage, "file_x", time.time() - 1)
    add_batch(redis, "file_x")
    tidy(redis, storage)
    assert set(storage.objects) == {"files/file_x"}
    assert Files(redis).expired(10) == []


def test_a_finished_batch_goes_after_its_retention_with_all_it_wrote(redis: Redis) -> None:
    storage = MemoryStorage()
    add_file(redis, storage, "file_x", None)
    batches = Batches(redis)
    old, young = add_batch(redis, "file_x"), add_batch(redis, "file_x")
    for id_ in (old, young):
        storage.objects[f"batches/{id_}/manifest.csv"] = b""
        redis.zadd("rm:retained_batches", {id_: (time.time() - (2 * DAY if id_ == old else 0)) * 1000})
    tidy(redis, storage)
    assert set(storage.objects) == {"files/file_x", f"batches/{young}/manifest.csv"}
    with pytest.raises(RendermillError, match="not_found"):
        batches.get(old)
    assert [batch.id for batch in batches.page("alice", limit=10, after=None)[0]] == [young]

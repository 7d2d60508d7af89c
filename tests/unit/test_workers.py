"""The workers that are alive, told by their heartbeats."""

from __future__ import annotations

import json

import pytest
from redis import Redis

from shared.workers import ALIVE_S, Worker, WorkerCount, Workers


def beat(workers: Workers, id_: str, *models: str) -> None:
    workers.beat(Worker(id=id_, models=list(models), device="cpu", state="idle"))


def fall_silent(redis: Redis, id_: str) -> None:
    data = json.loads(redis.hget("rm:workers", id_) or "")
    redis.hset("rm:workers", id_, json.dumps(data | {"beat_at": data["beat_at"] - ALIVE_S - 1}))


def test_a_worker_is_alive_while_it_beats(redis: Redis) -> None:
    workers = Workers(redis)
    for id_ in ("silent", "left", "living"):
        beat(workers, id_, "m")
    workers.leave("left")
    fall_silent(redis, "silent")
    assert [worker.id for worker in workers.alive()] == ["living"]
    workers.forget_dead()
    assert redis.hkeys("rm:workers") == ["living"]
    beat(workers, "silent", "m")
    assert {worker.id for worker in workers.alive()} == {"living", "silent"}


def test_a_worker_of_a_newer_release_is_understood(redis: Redis) -> None:
    workers = Workers(redis)
    beat(workers, "newer", "m")
    data = json.loads(redis.hget("rm:workers", "newer") or "")
    redis.hset("rm:workers", "newer", json.dumps(data | {"temperature": 70}))
    assert [worker.id for worker in workers.alive()] == ["newer"]


def test_the_count_of_a_models_workers_is_asked_for_once_a_second(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers(redis)
    count = WorkerCount(workers)
    beat(workers, "one", "a", "b")
    assert (count.serving("a"), count.serving("c")) == (1, 0)
    beat(workers, "two", "a")
    assert count.serving("a") == 1, "known from a moment ago"
    monkeypatch.setattr("shared.workers.time.monotonic", lambda: float("inf"))
    assert count.serving("a") == 2

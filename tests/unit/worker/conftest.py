"""Fixtures of the worker's unit tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest
from fakeredis import FakeRedis, FakeServer
from redis import Redis

from tests.unit.worker.fakes import RenderWorker


@pytest.fixture
def redis() -> Iterator[Redis]:
    """An empty fakeredis; the scheduler's own tests run on a real Valkey as well."""
    with FakeRedis(server=FakeServer(), decode_responses=True) as client:
        yield cast(Redis, client)


@pytest.fixture
def worker(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> RenderWorker:
    """A render worker whose patience is short."""
    monkeypatch.setattr("worker.patience.PAUSE_S", 0.005)
    monkeypatch.setattr("worker.storing.PAUSE_S", 0.005)
    monkeypatch.setattr("worker.storing._PATIENCE_S", 0.05)
    monkeypatch.setattr("worker.outcomes._REDIS_PATIENCE_S", 0.05)
    return RenderWorker(redis)

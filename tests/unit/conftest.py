"""Fixtures of the unit tests: an empty Redis, and the front door in this process with workers that only paint."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import cast

import httpx
import pytest
from fakeredis import FakeRedis, FakeServer
from flask import Flask
from redis import Redis

from api.app import create_app
from client import Client, connection
from shared.accounts import Accounts
from shared.redis_client import connect
from shared.scheduler import Scheduler
from shared.settings import Settings
from tests.background import working_on
from tests.fake_worker import FakeWorker
from tests.memory_storage import MemoryStorage
from tests.unit.fake_api import FakeApi
from worker.batching import BatchWorker, batch_worker

#: Small limits, so that what exceeds them is quickly made.
SETTINGS = Settings(
    public_url="http://farm.test",
    secret_key="a secret for links",
    max_body_bytes=400_000,
    max_input_bytes=200_000,
    max_input_pixels=1_000_000,
    wait_s=5,
    api_threads=8,
    egress_allow="127.0.0.0/8",
)


@pytest.fixture(params=["fakeredis", "valkey"])
def redis(request: pytest.FixtureRequest) -> Iterator[Redis]:
    """An empty Redis; each test that asks for it runs on fakeredis and on a real Valkey."""
    if request.param == "fakeredis":
        with FakeRedis(server=FakeServer(), decode_responses=True) as client:
            yield cast(Redis, client)
    else:
        with connect(request.getfixturevalue("valkey_url")) as client:
            client.flushall()
            yield client


@pytest.fixture
def valkey(valkey_url: str) -> Iterator[Redis]:
    """An empty real Valkey, for what fakeredis cannot show."""
    with connect(valkey_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    """The farm that every command of the test speaks to."""
    fake = FakeApi()
    monkeypatch.setattr(connection, "Client", partial(Client, transport=httpx.MockTransport(fake.answer)))
    monkeypatch.setattr(connection, "PATIENCE_S", 0.0)
    monkeypatch.setenv("RENDERMILL_URL", "http://farm.test")
    monkeypatch.setenv("RENDERMILL_API_KEY", "rm_key")
    return fake


@pytest.fixture(scope="session")
def session_redis() -> Redis:
    return cast(Redis, FakeRedis(server=FakeServer(), decode_responses=True))


@pytest.fixture
def front_redis(session_redis: Redis) -> Redis:
    """The front door's Redis, empty."""
    session_redis.flushall()
    return session_redis


@pytest.fixture(scope="session")
def session_storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def storage(session_storage: MemoryStorage) -> Iterator[MemoryStorage]:
    """An empty bucket."""
    session_storage.objects.clear()
    yield session_storage
    session_storage.away = False


@pytest.fixture(scope="session")
def session_tickets() -> list[tuple[str, str]]:
    return []


@pytest.fixture(scope="session")
def app(session_redis: Redis, session_storage: MemoryStorage, session_tickets: list[tuple[str, str]]) -> Flask:
    return create_app(
        SETTINGS, session_redis, session_storage, lambda task, queue: session_tickets.append((task, queue))
    )


@pytest.fixture
def key(front_redis: Redis) -> str:
    """An API key of the account alice."""
    return Accounts(front_redis).create_key("alice")


@pytest.fixture
def worker(front_redis: Redis, storage: MemoryStorage) -> FakeWorker:
    """A worker that paints what waits, when it is told to."""
    return FakeWorker(front_redis, storage)


@pytest.fixture
def working(worker: FakeWorker) -> Iterator[None]:
    """A worker in the background."""
    with working_on(worker.work):
        yield


@pytest.fixture
def batching(front_redis: Redis, storage: MemoryStorage) -> BatchWorker:
    """A worker for batches, which looks when it is told to."""
    scheduler = Scheduler(front_redis, lease_s=60, max_attempts=1, retry_delay_s=1)
    return batch_worker(SETTINGS, front_redis, scheduler, storage)

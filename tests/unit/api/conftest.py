"""The front door in this process, on fakeredis and a bucket in memory, with a worker that only paints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from fakeredis import FakeRedis, FakeServer
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis

from api.app import create_app
from shared.accounts import Accounts
from shared.scheduler import Scheduler
from shared.settings import Settings
from tests.background import working_on
from tests.fake_worker import FakeWorker
from tests.memory_storage import MemoryStorage
from tests.unit.api.batch_lines import IMAGES
from tests.unit.api.uploads import upload
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

Post = Callable[..., Any]


@pytest.fixture(scope="session")
def session_redis() -> Redis:
    return cast(Redis, FakeRedis(server=FakeServer(), decode_responses=True))


@pytest.fixture
def redis(session_redis: Redis) -> Redis:
    """An empty Redis."""
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


@pytest.fixture
def tickets(session_tickets: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The tickets that were published: task and queue of each."""
    session_tickets.clear()
    return session_tickets


@pytest.fixture(scope="session")
def app(session_redis: Redis, session_storage: MemoryStorage, session_tickets: list[tuple[str, str]]) -> Flask:
    return create_app(
        SETTINGS, session_redis, session_storage, lambda task, queue: session_tickets.append((task, queue))
    )


@pytest.fixture
def key(redis: Redis) -> str:
    """An API key of the account alice."""
    return Accounts(redis).create_key("alice")


@pytest.fixture
def stranger(redis: Redis) -> dict[str, str]:
    """The headers of another account, bob."""
    return {"x-api-key": Accounts(redis).create_key("bob")}


@pytest.fixture
def anonymous(app: Flask, storage: MemoryStorage, redis: Redis) -> FlaskClient:  # noqa: ARG001 - emptied
    """A client without a key."""
    return app.test_client()


@pytest.fixture
def client(anonymous: FlaskClient, key: str) -> FlaskClient:
    """A client with alice's key."""
    anonymous.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    return anonymous


@pytest.fixture
def worker(redis: Redis, storage: MemoryStorage) -> FakeWorker:
    return FakeWorker(redis, storage)


@pytest.fixture
def working(worker: FakeWorker) -> Iterator[None]:
    """A worker in the background."""
    with working_on(worker.work):
        yield


@pytest.fixture
def submit(client: FlaskClient) -> Post:
    """Hand in a small job of alice's, with whatever else is named; its answer."""

    def post(headers: dict[str, str] | None = None, **body: Any) -> Any:
        job = {"model": "sdxl-lightning", "prompt": "a red fox", "width": 256, "height": 256, **body}
        return client.post("/v1/jobs", json=job, headers=headers)

    return post


@pytest.fixture
def batching(redis: Redis, storage: MemoryStorage) -> BatchWorker:
    scheduler = Scheduler(redis, lease_s=60, max_attempts=1, retry_delay_s=1)
    return batch_worker(SETTINGS, redis, scheduler, storage)


@pytest.fixture
def create(client: FlaskClient) -> Post:
    """Upload lines and hand them in as a batch; the Batch object."""

    def post(lines: bytes | list[dict[str, Any]], endpoint: str = IMAGES, **fields: Any) -> dict[str, Any]:
        data = lines if isinstance(lines, bytes) else b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        file_id = upload(client, data).json["id"]
        body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h", **fields}
        answer = client.post("/v1/batches", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json)

    return post

"""What speaks to the front door, and hands things in there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis

from shared.accounts import Accounts
from tests.memory_storage import MemoryStorage
from tests.unit.api.batch_lines import IMAGES
from tests.unit.api.uploads import upload

Post = Callable[..., Any]


@pytest.fixture
def redis(front_redis: Redis) -> Redis:
    """The front door's Redis, empty."""
    return front_redis


@pytest.fixture
def tickets(session_tickets: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The tickets that were published: task and queue of each."""
    session_tickets.clear()
    return session_tickets


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
def submit(client: FlaskClient) -> Post:
    """Hand in a small job of alice's, with whatever else is named; its answer."""

    def post(headers: dict[str, str] | None = None, **body: Any) -> Any:
        job = {"model": "sdxl-lightning", "prompt": "a red fox", "width": 256, "height": 256, **body}
        return client.post("/v1/jobs", json=job, headers=headers)

    return post


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

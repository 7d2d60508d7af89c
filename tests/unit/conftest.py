"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import cast

import httpx
import pytest
from fakeredis import FakeRedis, FakeServer
from redis import Redis

from client import Client, connection
from shared.redis_client import connect
from tests.unit.fake_api import FakeApi


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

"""Clients that speak to the farm's own front door, in this process, with a worker that only paints."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from flask import Flask

from client import AsyncClient, Client
from client.bulk import follow
from tests.background import working_on
from tests.unit.client.served import Served
from worker.batching import BatchWorker


class AsyncFrontDoor(httpx.AsyncBaseTransport):
    """A WSGI application for an asynchronous client; each answer comes whole."""

    def __init__(self, app: Flask) -> None:
        self._transport = httpx.WSGITransport(app=app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        return await asyncio.to_thread(self._answer, request)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = self._transport.handle_request(request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.read())


@pytest.fixture
def farm(app: Flask, storage: object, key: str) -> Iterator[Client]:  # noqa: ARG001
    """A client with alice's key."""
    with Client("http://farm.test", key, transport=httpx.WSGITransport(app=app)) as farm:
        yield farm


@pytest.fixture
def async_farm(app: Flask, storage: object, key: str) -> AsyncClient:  # noqa: ARG001
    """An asynchronous client with alice's key; the test closes it in its own loop."""
    return AsyncClient("http://farm.test", key, transport=AsyncFrontDoor(app))


@pytest.fixture
def serving(working: None, batching: BatchWorker) -> Iterator[None]:  # noqa: ARG001
    """Workers for jobs and for batches in the background."""
    with working_on(batching.work_due):
        yield


@pytest.fixture
def door(
    app: Flask,
    storage: object,  # noqa: ARG001
    key: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Served]:
    """The front door behind a port; its address and key in the environment, and a folder and state of one's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(follow, "LOOK_S", 0.05)
    with Served(app) as served:
        monkeypatch.setenv("RENDERMILL_URL", served.url)
        monkeypatch.setenv("RENDERMILL_API_KEY", key)
        yield served

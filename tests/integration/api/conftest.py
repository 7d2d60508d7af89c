"""The front door behind a real HTTP server, on a real Valkey and S3, with a worker that only paints."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from redis import Redis
from werkzeug.serving import make_server

from api.app import create_app
from farm.parts import free_port
from shared.accounts import Accounts
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage import Storage
from tests.fake_worker import FakeWorker


@dataclass(frozen=True)
class Farm:
    url: str
    key: str
    settings: Settings
    redis: Redis
    storage: Storage


@pytest.fixture(scope="module")
def live(valkey_url: str, s3: Settings) -> Iterator[Farm]:
    """A farm that answers at `url` while the tests of a module run."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    settings = replace(
        s3, s3_bucket="api", redis_url=valkey_url, public_url=url, secret_key="a secret", wait_s=20, api_threads=16
    )
    redis, storage = connect(valkey_url), Storage(settings)
    redis.flushall()
    storage.ensure_bucket()
    app = create_app(settings, redis, storage)
    server = make_server("127.0.0.1", port, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with FakeWorker(redis, storage).working():
        yield Farm(url, Accounts(redis).create_key("alice"), settings, redis, storage)
    server.shutdown()
    thread.join()
    server.server_close()
    app.extensions["rendermill"].events.close()
    redis.close()

"""The front door behind a real HTTP server, on a real Valkey and S3, with a worker that only paints."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import httpx
import pytest
from redis import Redis
from werkzeug.serving import make_server

from api.app import create_app
from farm import parts
from shared.accounts import Accounts
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage import Storage
from tests.background import working_on
from tests.fake_worker import FakeWorker
from tests.servers import running, wait_until

#: A limit of the farm behind gunicorn, small enough to exceed it quickly.
MAX_BODY = 200_000


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
    with serving(replace(s3, redis_url=valkey_url)) as farm:
        yield farm


@contextmanager
def serving(settings: Settings) -> Iterator[Farm]:
    """A farm that answers for the time of a `with` block, with nothing in it."""
    url = f"http://127.0.0.1:{(port := parts.free_port())}"
    settings = replace(settings, s3_bucket="api", public_url=url, secret_key="a secret", wait_s=20, api_threads=16)
    redis, storage = connect(settings.redis_url), Storage(settings)
    redis.flushall()
    storage.ensure_bucket()
    app = create_app(settings, redis, storage)
    server = make_server("127.0.0.1", port, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with working_on(FakeWorker(redis, storage).work):
        yield Farm(url, Accounts(redis).create_key("alice"), settings, redis, storage)
    server.shutdown()
    thread.join()
    server.server_close()
    app.extensions["rendermill"].events.close()
    redis.close()


@pytest.fixture(scope="module")
def farm(valkey_url: str, s3: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """The front door as it is run: gunicorn with its configuration, several processes."""
    directory = tmp_path_factory.mktemp("gunicorn")
    (metrics := directory / "metrics").mkdir()
    url = f"http://127.0.0.1:{(port := parts.free_port())}"
    settings = replace(s3, s3_bucket="gunicorn", redis_url=valkey_url, public_url=url, secret_key="a secret")
    given = {
        **{name: getattr(settings, name) for name in ("redis_url", "public_url", "secret_key")},
        **{name: getattr(settings, name) for name in ("s3_endpoint", "s3_access_key", "s3_secret_key", "s3_bucket")},
        "max_body_bytes": MAX_BODY,
        "api_threads": 8,
    }
    program = parts.api("127.0.0.1", port, metrics)
    environment = {f"RENDERMILL_{name.upper()}": str(value) for name, value in given.items()}
    program = replace(program, environment={**program.environment, **environment})
    redis = connect(valkey_url)
    redis.flushall()
    with running(program, directory / "log"):
        wait_until(lambda: answers(url), f"{url} is ready")
        yield Farm(url, Accounts(redis).create_key("alice"), settings, redis, Storage(settings))
    redis.close()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def http(farm: Farm) -> Iterator[httpx.Client]:
    """A client of that front door, with alice's key."""
    with httpx.Client(base_url=farm.url, headers={"x-api-key": farm.key}, timeout=20) as client:
        yield client

"""Fixtures for every test: the real servers of the embedded farm, started once for the session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from farm import parts
from shared.settings import Settings
from tests.servers import running, s3_answers, valkey_answers, wait_until
from worker.engine.tiny import build


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Valkey. One server for the session: a test that needs it empty flushes it first."""
    directory = tmp_path_factory.mktemp("valkey")
    port = parts.free_port()
    url = parts.valkey_url(port, "test-password")
    with running(parts.valkey(directory, port, "test-password"), directory / "log"):
        wait_until(lambda: valkey_answers(url), "Valkey answers")
        yield url


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings whose `s3_…` fields lead to a real S3 server. One for the session; use a bucket or keys of your own."""
    directory = tmp_path_factory.mktemp("s3")
    port = parts.free_port()
    settings = Settings(
        s3_endpoint=f"http://{parts.LOOPBACK}:{port}",
        s3_access_key=parts.S3_ACCESS_KEY,
        s3_secret_key="test-secret-key",
        s3_region=parts.S3_REGION,
    )
    with running(parts.s3(directory / "objects", port, settings.s3_secret_key), directory / "log"):
        wait_until(lambda: s3_answers(settings), "S3 answers")
        yield settings


@pytest.fixture(scope="session")
def tiny_models() -> Path:
    """A models folder with the tiny checkpoints, kept in the working copy until their recipe changes."""
    directory = Path(__file__).parent.parent / ".rendermill-test-cache" / "models"
    build(directory)
    return directory

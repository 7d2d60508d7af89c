"""One whole farm for all end-to-end tests. A test that hurts it waits until it is ready again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from client import Client
from tests.running_farm import RunningFarm, running_farm


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Iterator[RunningFarm]:
    """`rendermill up` on a free port, with tiny checkpoints and every other setting at its default."""
    with running_farm(tmp_path_factory.mktemp("farm") / "data", tiny_models) as farm:
        yield farm


@pytest.fixture
def api(farm: RunningFarm) -> Iterator[Client]:
    """A client of the farm."""
    with farm.client() as client:
        yield client

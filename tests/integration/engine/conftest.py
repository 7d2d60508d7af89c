"""One engine with the tiny checkpoints for all of these tests: what it has loaded stays loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.settings import Settings
from tests.integration.engine.rendering import CATALOG
from worker.engine import Engine


@pytest.fixture(scope="session")
def engine(tiny_models: Path) -> Engine:
    return Engine(CATALOG, Settings(models_dir=str(tiny_models), models_offline=True), device="cpu")

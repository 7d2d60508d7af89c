"""The GPU benchmark's way through a whole farm."""

from __future__ import annotations

import pytest

from bench.farm_throughput import images_per_second
from bench.workloads import TINY, Workload
from shared.catalog import load_catalog
from shared.settings import Settings
from tests.running_farm import RunningFarm

CATALOG = load_catalog(Settings().catalog_path)


@pytest.mark.parametrize("workload", [TINY[0], TINY[-1]], ids=["lightning", "fill"])
def test_a_running_farms_rate_is_measured_from_its_jobs(farm: RunningFarm, workload: Workload) -> None:
    assert images_per_second(farm.url, farm.key, workload.job(CATALOG), jobs=2) > 0

"""The engine adds batching, progress and care to diffusers; it takes nothing away and changes no picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.workloads import TINY, Workload
from tests.integration.engine.rendering import CATALOG, render
from worker.engine import Engine


@pytest.mark.parametrize("workload", TINY, ids=[workload.name for workload in TINY])
def test_a_picture_is_the_one_that_diffusers_alone_would_make(
    engine: Engine, tiny_models: Path, workload: Workload
) -> None:
    (one,) = workload.items(CATALOG, 1)
    plain = workload.plain(CATALOG, tiny_models, "cpu", torch.float32)
    _, (pixels,) = render(engine, [one])
    expected = np.asarray(plain(torch.Generator("cpu").manual_seed(one.seed))).astype(float)
    # One level, for the two round at different places.
    assert np.abs(expected - pixels).max() <= 1

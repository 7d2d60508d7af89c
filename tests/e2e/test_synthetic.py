"""A farm of synthetic models: everything but the device is real."""

from __future__ import annotations

import io
from pathlib import Path

import PIL.Image
import psutil

from tests.running_farm import running_farm
from tests.servers import PATIENCE_S

CATALOG = Path(__file__).parents[2] / "examples" / "synthetic.toml"


def test_a_farm_of_synthetic_models_renders_jobs_without_torch(tmp_path: Path) -> None:
    with running_farm(tmp_path / "data", tmp_path, {"CATALOG": str(CATALOG)}) as farm, farm.client() as client:
        jobs = [client.submit({"model": "synthetic-1", "prompt": "a cat", "seed": seed}) for seed in (1, 2, 1)]
        pictures = []
        for job in jobs:
            finished = client.wait(job, timeout_s=PATIENCE_S)
            assert finished.status == "succeeded", finished.error
            pictures += [client.download(image) for image in finished.images]
        assert pictures[0] == pictures[2] != pictures[1]
        assert PIL.Image.open(io.BytesIO(pictures[0])).size == (128, 128)

        worker = psutil.Process(farm.pid("render"))
        assert worker.cmdline()[-2:] == ["worker", "render"]
        mapped = [file.path for file in worker.memory_maps()]
        assert any("PIL" in path for path in mapped)
        assert not any("torch" in path for path in mapped)

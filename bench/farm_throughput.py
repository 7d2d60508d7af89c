"""Images per second through a whole farm: jobs in by HTTP, pictures out in S3."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from client.client import Client
from farm.embedded import EmbeddedFarm
from shared.settings import PREFIX

#: A worker that has to load a full-size model from disk first.
_READY_S = 300.0
_JOB_S = 600.0


class ThroughputError(Exception):
    """A farm did not render what was to be measured."""


def images_per_second_through_farm(job: Mapping[str, Any], models_dir: Path, *, jobs: int) -> float:
    """Start an embedded farm that serves the job's model alone from `models_dir`, and measure it."""
    with running_farm(str(job["model"]), models_dir) as (url, key):
        return images_per_second(url, key, job, jobs=jobs)


@contextmanager
def running_farm(model: str, models_dir: Path) -> Iterator[tuple[str, str]]:
    """An embedded farm that serves one model, loaded, from `models_dir`; its URL and a key."""
    settings = {"MODELS_DIR": str(models_dir), "MODELS_OFFLINE": "1", "MODELS": model, "PRELOAD": model}
    with embedded_farm(settings) as farm:
        yield farm.url, farm.data_dir.api_key_file.read_text()


@contextmanager
def embedded_farm(settings: Mapping[str, str]) -> Iterator[EmbeddedFarm]:
    """An embedded farm with these settings, ready."""
    with tempfile.TemporaryDirectory(prefix="rendermill-bench-farm-") as scratch:
        farm = EmbeddedFarm(Path(scratch), "127.0.0.1", 0, print)
        with environment_of_farms({PREFIX + name: value for name, value in settings.items()}):
            farm.start()
        try:
            farm.wait_ready(_READY_S)
            yield farm
        finally:
            farm.stop()


def images_per_second(url: str, key: str, job: Mapping[str, Any], *, jobs: int) -> float:
    """Submit the job to a running farm and measure the images it stores per second, over `jobs` of them.

    Half as many go before, so that the worker is warm and the queue never empty. From the start of the first measured
    render to the last stored picture, by the farm's own clock. Raises ThroughputError where a job fails.
    """
    with Client(url, key) as client:
        # Each with a prompt of its own, so that none is spared its text encoding.
        submitted = [
            client.submit({**job, "prompt": f"{job['prompt']}, {number}"}) for number in range(jobs // 2 + jobs)
        ]
        finished = [client.wait(one, timeout_s=_JOB_S) for one in submitted]
    failed = [one for one in finished if one.status != "succeeded"]
    if failed:
        raise ThroughputError(f"{len(failed)} of {len(finished)} jobs did not succeed; the first: {failed[0].error}")
    measured = finished[-jobs:]
    began = min(_time(one.raw["started_at"]) for one in measured)
    ended = max(_time(one.raw["finished_at"]) for one in measured)
    return jobs / (ended - began)


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@contextmanager
def environment_of_farms(variables: Mapping[str, str]) -> Iterator[None]:
    """The farm takes the settings of its processes from this process's environment."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

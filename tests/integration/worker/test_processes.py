"""Real worker processes on a real Valkey and S3: what they make, and how they go."""

from __future__ import annotations

import io
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest
from redis import Redis

from shared.images import Images
from shared.settings import Settings
from tests.worker_farm import ACCOUNT, MODEL, WorkerFarm, worker_farm

#: About three seconds of rendering on two slow cores.
LONG = 60


class Farm(WorkerFarm):
    render: subprocess.Popen[bytes]
    upkeep: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory, valkey_url: str, s3: Settings, tiny_models: Path) -> Iterator[Farm]:
    with Redis.from_url(valkey_url) as redis:
        redis.flushall()
    with worker_farm(tmp_path_factory.mktemp("workers"), valkey_url, s3, tiny_models, Farm) as farm:
        farm.upkeep = farm.start("upkeep")
        farm.render = farm.start("render")
        yield farm


def test_pictures_of_every_format_are_stored_as_their_records_say(farm: Farm) -> None:
    ids = [farm.accept(1, output_format=name, n=2)[0] for name in ("jpeg", "png", "webp")]
    farm.wait_finished(ids)
    farm.check_history(ids)
    for job in farm.jobs(ids):
        for image in Images(farm.redis).read(job.images).values():
            data = farm.storage.get(image.key)
            assert len(data) == image.size
            picture = PIL.Image.open(io.BytesIO(data))
            assert (picture.format or "").lower() == job.request.output_format
            assert picture.size == (256, 256)


def test_lost_tickets_and_wake_ups_are_healed(farm: Farm) -> None:
    ids = farm.accept(20, steps=4)
    farm.wait_until(lambda: farm.jobs(ids)[0].status != "queued", "the first batch is claimed")
    for _ in range(20):
        farm.redis.delete(f"render.{MODEL}", "rm:wake_ups")
    farm.wait_finished(ids)
    farm.check_history(ids)


def test_a_job_called_off_stops_in_the_middle_and_its_worker_goes_on(farm: Farm) -> None:
    called_off = farm.begin(100)
    farm.scheduler.cancel(called_off, ACCOUNT)
    farm.wait_finished([called_off])
    job = farm.jobs([called_off])[0]
    assert (job.status, job.images) == ("canceled", [])
    assert job.progress < 1
    ids = farm.accept(1)
    farm.wait_finished(ids)
    farm.check_history(ids)


def test_told_to_go_the_worker_finishes_its_job_claims_no_other_and_leaves(farm: Farm) -> None:
    begun = farm.begin(LONG)
    (waiting,) = farm.accept(1)
    assert farm.end(farm.render, signal.SIGTERM) == 0
    farm.wait_finished([begun])
    farm.check_history([begun])
    assert farm.jobs([waiting])[0].status == "queued"
    assert farm.redis.hlen("rm:workers") == 0


def test_an_idle_upkeep_worker_is_gone_within_seconds(farm: Farm) -> None:
    assert farm.end(farm.upkeep, signal.SIGTERM) == 0
    assert "Traceback" not in farm.log("upkeep") + farm.log("render")

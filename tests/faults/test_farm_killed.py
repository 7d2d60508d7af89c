"""kill -9 anywhere in the farm: every accepted job finishes, once, and is told of under one id."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from client import Client
from farm.demo.receiver import Receiver
from tests.running_farm import RunningFarm, running_farm
from tests.servers import PATIENCE_S, wait_until
from tests.worker_farm import LEASE_S

JOB = {"model": "sdxl-base", "prompt": "a cat", "width": 256, "height": 256}
#: Steps enough that a job is in the middle of its rendering when it is killed.
LONG = {**JOB, "num_steps": 60}


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Iterator[RunningFarm]:
    """A farm of its own, which notices a lost worker after seconds, and drains for one."""
    settings = {"LEASE_S": str(LEASE_S), "DRAIN_S": "1"}
    with running_farm(tmp_path_factory.mktemp("killed") / "data", tiny_models, settings) as farm:
        yield farm


@pytest.fixture
def api(farm: RunningFarm) -> Iterator[Client]:
    farm.wait_ready()
    with farm.client() as client:
        yield client


@pytest.fixture
def receiver(api: Client, tmp_path: Path) -> Iterator[Receiver]:
    with Receiver(tmp_path / "webhooks.jsonl") as receiver:
        receiver.trust(api.request("GET", "/v1/webhooks/secret").json()["secret"])
        yield receiver


def webhooks(tmp_path: Path) -> list[dict[str, Any]]:
    """The verified webhooks that came."""
    return [json.loads(line) for line in (tmp_path / "webhooks.jsonl").read_text().splitlines()]


def test_a_job_whose_worker_is_killed_in_the_middle_finishes_once_with_one_webhook(
    farm: RunningFarm, api: Client, receiver: Receiver, tmp_path: Path
) -> None:
    job = api.submit({**LONG, "webhook_url": receiver.url})
    wait_until(lambda: 0.1 < api.get(job.id).progress < 0.9, "the job is in the middle of its rendering")
    farm.kill_process("render")
    finished = api.wait(job, timeout_s=PATIENCE_S)
    assert finished.status == "succeeded"
    assert finished.raw["attempts"] > 1
    assert len(finished.images) == 1
    assert api.download(finished.images[0])
    receiver.wait_for([job.id], PATIENCE_S)
    assert {webhook["data"]["id"] for webhook in webhooks(tmp_path)} == {job.id}
    assert len({webhook["webhook_id"] for webhook in webhooks(tmp_path)}) == 1


def test_every_accepted_job_finishes_though_valkey_is_killed_and_the_farm_started_again(
    farm: RunningFarm, api: Client, receiver: Receiver, tmp_path: Path
) -> None:
    jobs = [api.submit({**JOB, "num_steps": 4, "seed": seed, "webhook_url": receiver.url}) for seed in range(30)]
    wait_until(lambda: any(job.finished for job in api.jobs(limit=30)), "the first jobs are finished")
    done = next(job for job in api.jobs(limit=30) if job.finished)
    picture, key = api.download(done.images[0]), farm.key
    farm.kill_process("valkey")
    farm.kill()
    farm.start()
    assert farm.key == key
    assert api.get(done.id).raw == done.raw
    assert api.download(done.images[0]) == picture
    finished = [api.wait(job, timeout_s=PATIENCE_S) for job in jobs]
    assert {job.status for job in finished} == {"succeeded"}
    receiver.wait_for([job.id for job in jobs], PATIENCE_S)
    # A sender that is killed before it could note what it sent sends it again, with the id that tells.
    came = {(webhook["data"]["id"], webhook["webhook_id"]) for webhook in webhooks(tmp_path)}
    assert Counter(job_id for job_id, _ in came) == {job.id: 1 for job in jobs}


def test_ctrl_c_gives_back_what_is_being_rendered_and_the_next_start_goes_on(farm: RunningFarm, api: Client) -> None:
    jobs = [api.submit({**LONG, "seed": seed}) for seed in range(2)]
    wait_until(lambda: api.get(jobs[0].id).progress > 0, "the first job is being rendered")
    assert farm.stop() == 0
    assert "stopping: the render worker finishes its batch, or gives it back" in farm.errors.read_text()
    farm.start()
    finished = [api.wait(job, timeout_s=PATIENCE_S) for job in jobs]
    assert [(job.status, job.raw["attempts"]) for job in finished] == [("succeeded", 1)] * 2
    with Redis.from_url(farm.redis_url, decode_responses=True) as redis:
        assert redis.hget(f"rm:job:{jobs[0].id}", "releases") == "1", "it was given back, not waited for"

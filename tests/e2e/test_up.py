"""`rendermill up`: what dies comes back, and nothing that was accepted is lost."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from client import Client, Job
from tests.running_farm import RunningFarm, running_farm

QUICK = {"model": "sdxl-lightning", "width": 256, "height": 256, "prompt": "a paper boat"}


def _quick_settings(farm: RunningFarm) -> dict[str, str]:
    """Another farm's checkpoints instead of new ones, and leases that do not outlive their worker for long."""
    return {"MODELS_DIR": str(farm.data_dir / "models"), "MODELS_OFFLINE": "1", "LEASE_S": "5"}


def _renders(farm: RunningFarm) -> Job:
    with farm.client() as api:
        return api.wait(api.submit(QUICK), timeout_s=120)


def test_the_key_that_it_leaves_opens_the_api_and_is_its_owners_alone(farm: RunningFarm, api: Client) -> None:
    assert {model["id"] for model in api.models()} >= {"ByteDance/SDXL-Lightning"}
    assert stat.S_IMODE((farm.data_dir / "api-key").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["valkey", "s3", "upkeep", "render", "api"])
def test_a_killed_process_is_replaced_and_the_farm_renders_on(farm: RunningFarm, name: str) -> None:
    farm.kill_process(name)
    farm.wait_ready()
    assert _renders(farm).status == "succeeded"


def test_a_second_farm_in_the_same_directory_is_refused(farm: RunningFarm) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "farm", "up", "--port", "0", "--data-dir", str(farm.data_dir)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    assert f"A farm runs in {farm.data_dir} already" in second.stderr
    assert farm.is_ready()


def test_a_killed_farm_starts_again_with_its_jobs_its_pictures_and_its_key(farm: RunningFarm, tmp_path: Path) -> None:
    with running_farm(tmp_path / "data", _quick_settings(farm)) as own:
        key = own.key
        with own.client() as api:
            finished = api.wait(api.submit(QUICK), timeout_s=120)
            accepted = [api.submit({**QUICK, "seed": seed}) for seed in range(20)]
        own.kill()
        own.start()
        assert own.key == key
        with own.client() as api:
            assert api.get(finished.id).images == finished.images
            assert api.download(finished.images[0])
            assert {api.wait(job, timeout_s=180).status for job in accepted} == {"succeeded"}
            assert len(list(api.jobs())) == 21


def test_ctrl_c_stops_it_with_success_and_the_next_start_finds_everything(farm: RunningFarm, tmp_path: Path) -> None:
    with running_farm(tmp_path / "data", _quick_settings(farm)) as own:
        with own.client() as api:
            job = api.wait(api.submit(QUICK), timeout_s=120)
        assert own.stop() == 0
        own.start()
        with own.client() as api:
            assert api.get(job.id).raw == job.raw


def test_the_command_line_renders_every_example_line(farm: RunningFarm, tmp_path: Path) -> None:
    examples = Path(__file__).parents[2] / "examples" / "prompts.jsonl"
    command = [sys.executable, "-m", "farm", "submit", str(examples), "--out", str(tmp_path), "--json"]
    connection = ["--url", farm.url, "--api-key", farm.key]
    run = subprocess.run([*command, *connection], capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stderr
    jobs = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(jobs) == len(examples.read_text().splitlines())
    assert len(list(tmp_path.iterdir())) == sum(len(job["images"]) for job in jobs)

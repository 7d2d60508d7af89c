"""`rendermill up` and the command line: what dies comes back, and a file is rendered once however often it is sent."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from client import Client, Job
from tests.running_farm import RunningFarm

EXAMPLES = Path(__file__).parents[2] / "examples" / "prompts.jsonl"
QUICK = {"model": "sdxl-lightning", "width": 256, "height": 256, "prompt": "a paper boat"}


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


def _submit(farm: RunningFarm, *options: str) -> list[dict[str, Any]]:
    """What `rendermill submit --json` says of the examples."""
    command = [sys.executable, "-m", "farm", "submit", str(EXAMPLES), "--json", "--data-dir", str(farm.data_dir)]
    run = subprocess.run([*command, *options], capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_the_command_line_renders_every_example_line_once_however_often_it_is_sent(
    farm: RunningFarm, tmp_path: Path
) -> None:
    jobs = _submit(farm, "--out", str(tmp_path))
    assert [job["line"] for job in jobs] == list(range(1, len(EXAMPLES.read_text().splitlines()) + 1))
    assert not any(job["replayed"] for job in jobs)
    assert len(list(tmp_path.iterdir())) == sum(len(job["images"]) for job in jobs)
    again = _submit(farm)
    assert [job["id"] for job in again] == [job["id"] for job in jobs]
    assert all(job["replayed"] for job in again)


def test_lines_are_submitted_though_the_api_is_restarted_meanwhile(
    farm: RunningFarm, api: Client, tmp_path: Path
) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text("".join(json.dumps({**QUICK, "seed": seed}) + "\n" for seed in range(300)))
    command = [sys.executable, "-m", "farm", "submit", str(file), "--data-dir", str(farm.data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as submit:
        assert submit.stdout is not None
        ids = [submit.stdout.readline().split()[0] for _ in range(20)]
        farm.restart_process("api")
        ids += [line.split()[0] for line in submit.stdout]
        assert submit.wait(timeout=60) == 0
    assert len(set(ids)) == 300
    farm.wait_ready()
    for id_ in ids:
        api.cancel(id_)

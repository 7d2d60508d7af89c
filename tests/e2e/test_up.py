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
from tests.servers import PATIENCE_S, wait_until

EXAMPLES = Path(__file__).parents[2] / "examples" / "prompts.jsonl"
QUICK = {"model": "sdxl-lightning", "width": 256, "height": 256, "prompt": "a paper boat"}


def _renders(farm: RunningFarm) -> Job:
    with farm.client() as api:
        return api.wait(api.submit(QUICK), timeout_s=PATIENCE_S)


def test_the_key_that_it_leaves_opens_the_api_and_is_its_owners_alone(farm: RunningFarm, api: Client) -> None:
    assert {model.id for model in api.models()} >= {"ByteDance/SDXL-Lightning"}
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
        timeout=PATIENCE_S,
        check=False,
    )
    assert second.returncode == 1
    assert f"A farm runs in {farm.data_dir} already" in second.stderr
    assert farm.is_ready()


def _submit(farm: RunningFarm, file: Path, out: Path) -> list[dict[str, Any]]:
    """What `rendermill submit --json` says of each line of the file."""
    command = [sys.executable, "-m", "farm", "submit", str(file), "--json", "--data-dir", str(farm.data_dir)]
    run = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stderr
    return sorted(map(json.loads, run.stdout.splitlines()), key=lambda row: row["line"])


def test_the_command_line_renders_every_example_line_once_however_often_it_is_sent(
    farm: RunningFarm, tmp_path: Path
) -> None:
    rows = _submit(farm, EXAMPLES, tmp_path / "first")
    assert [row["line"] for row in rows] == list(range(1, len(EXAMPLES.read_text().splitlines()) + 1))
    pictures = {name for row in rows for name in row["files"]}
    assert pictures < {file.name for file in (tmp_path / "first").iterdir()}
    again = _submit(farm, EXAMPLES, tmp_path / "second")
    assert [row["job"] for row in again] == [row["job"] for row in rows]
    assert {name for row in again for name in row["files"]} == pictures


def test_pictures_are_saved_though_the_api_is_restarted_meanwhile(farm: RunningFarm, tmp_path: Path) -> None:
    file, out = tmp_path / "lines.jsonl", tmp_path / "out"
    file.write_text("".join(json.dumps({**QUICK, "seed": seed}) + "\n" for seed in range(60)))
    command = [sys.executable, "-m", "farm", "submit", str(file), "--data-dir", str(farm.data_dir)]
    with subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.PIPE, text=True) as submit:
        results = out / "results.jsonl"
        wait_until(lambda: results.exists() and results.read_text(), "the first picture")
        farm.restart_process("api")
        assert submit.wait(timeout=PATIENCE_S) == 0
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(row["line"], row["status"]) for row in rows] == [(number, "succeeded") for number in range(1, 61)]
    assert len({row["job"] for row in rows}) == 60
    assert all((out / name).stat().st_size for row in rows for name in row["files"])
    farm.wait_ready()

"""`make demo`, on a few of its lines: from nothing to pictures and verified webhooks, and nothing left running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

LINES = [
    {"model": "sdxl-lightning", "prompt": "a fox", "width": 256, "height": 256, "n": 2},
    {"url": "/v1/images/generations", "body": {"prompt": "a boat", "size": "256x256"}},
]


def _demo(
    place: Path, lines: list[dict[str, object]], settings: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    (place / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ["--prompts", "prompts.jsonl", "--out", "out", "--data-dir", "data"]
    command = [sys.executable, "-m", "farm.demo", *options]
    environment = {**os.environ, **(settings or {})}
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=240, check=False)


def test_the_demo_leaves_pictures_a_contact_sheet_and_verified_webhooks(tmp_path: Path) -> None:
    run = _demo(tmp_path, LINES)
    assert run.returncode == 0, run.stdout + run.stderr
    out = tmp_path / "out"
    assert len(list(out.glob("01-a-fox-*.jpeg"))) == 2
    assert len(list(out.glob("02-a-boat-*"))) == 1
    with Image.open(out / "contact-sheet.jpg") as sheet:
        assert sheet.width > 256
    (entry,) = map(json.loads, (out / "webhooks.jsonl").read_text().splitlines())
    assert (entry["type"], entry["verified"], len(entry["data"]["images"])) == ("job.succeeded", True, 2)
    assert entry["data"]["id"] in run.stdout
    assert not (tmp_path / "data" / "farm.json").exists()


def test_the_demo_fails_with_the_reason_when_a_line_is_refused(tmp_path: Path, tiny_models: Path) -> None:
    checkpoints = {"RENDERMILL_MODELS_DIR": str(tiny_models)}
    run = _demo(tmp_path, [{"model": "no-such-model", "prompt": "a fox"}], checkpoints)
    assert run.returncode == 1
    assert "demo: line 1, a fox: " in run.stdout
    assert "no-such-model" in run.stdout

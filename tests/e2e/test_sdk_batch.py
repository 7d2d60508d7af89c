"""A batch of the official openai SDK through the whole farm. `python -m bench.sdk_batch` does the same at full size."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.sdk_batch import TINY, main, run, write_lines
from tests.running_farm import RunningFarm

#: A thousand take the tiny model a minute and a half of processor time.
LINES = 30


def test_each_line_of_a_batch_is_rendered_told_and_kept_once(farm: RunningFarm, tmp_path: Path) -> None:
    write_lines(tmp_path / "lines.jsonl", LINES, TINY)
    run(farm.url, farm.key, tmp_path / "lines.jsonl", LINES, tmp_path)


def test_the_benchmark_tells_what_it_saw(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--synthetic", "--lines", "300", "--workers", "2"])
    said = capsys.readouterr().out
    for what in ("ingest and rendering", "output file and manifest", "archive", "memory of upkeep", "held Redis"):
        assert what in said

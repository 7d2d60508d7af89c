"""The GPU benchmark's every path but the farm's, on the CPU with tiny checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import gpu


def bench(tiny_models: Path, results: Path, *more: str) -> None:
    fixed = ["--device", "cpu", "--tiny", "--no-farm", "--seconds", "0", "--models-dir", str(tiny_models)]
    gpu.main([*fixed, "--results", str(results), *more])


def test_every_workload_is_measured_alone_and_at_each_batch_size(
    tiny_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench(tiny_models, tmp_path / "results" / "gpu.json", "--batches", "1,2")
    written = json.loads((tmp_path / "results" / "gpu.json").read_text())
    assert [result["workload"] for result in written["results"]] == ["lightning", "base", "schnell", "fill"]
    for result in written["results"]:
        assert result["plain"] > 0
        assert list(result["engine"]) == ["1", "2"]
        assert all(rate > 0 for rate in result["engine"].values())
        assert result["batch_difference"] <= 1
    printed = capsys.readouterr().out
    assert "engine, batches of 2" in printed
    assert "× plain" in printed


def test_what_was_measured_before_time_ran_out_is_kept(tiny_models: Path, tmp_path: Path) -> None:
    bench(tiny_models, tmp_path / "gpu.json", "--only", "schnell", "--budget", "0")
    assert not (tmp_path / "gpu.json").exists()


def test_an_unknown_workload_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench(tmp_path, tmp_path / "gpu.json", "--only", "lightening")
    assert "lightning" in capsys.readouterr().err

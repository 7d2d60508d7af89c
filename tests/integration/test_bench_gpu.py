"""The GPU benchmark's paths but the farm's, on the CPU with tiny checkpoints; and that it survives what fails."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.gpu import __main__ as bench
from bench.gpu import measuring, parts, supervisor
from bench.gpu.figures import Figure, Journal
from bench.gpu.measuring import Task
from shared.catalog import Catalog, catalog

SMALL = Catalog(replace(model, batch_limit=2) for model in catalog().models.values())
# What torch says of its own insides while it imports its compiler.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
#: No time is tested: beyond this, something hangs.
HANG_S = 120.0


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Parts run here, in batches of two, and nothing is really compiled."""

    def measure(task: Task, deadline: float, note: Callable[[Figure], None]) -> None:  # noqa: ARG001
        journal = Path(task.journal)
        journal.unlink(missing_ok=True)
        measuring.run(task)
        for entry, _ in Journal(journal).read(0):
            if isinstance(entry, Figure):
                note(entry)

    def compile_nothing(self: nn.Module, **_: Any) -> None:
        self._compiled_call_impl = self._call_impl

    monkeypatch.setattr(bench, "measure", measure)
    monkeypatch.setattr(parts, "catalog", lambda: SMALL)
    monkeypatch.setattr(nn.Module, "compile", compile_nothing)
    yield
    torch._dynamo.config.suppress_errors = False


@pytest.mark.usefixtures("in_this_process")
def test_every_figure_is_written_beside_its_floor_and_an_option_that_fails_says_why(
    tiny_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results" / "gpu.json"
    wanted = ["plain", "engine", "fp8", "taylorseer", "compile reduce-overhead"]
    fixed = ["--device", "cpu", "--tiny", "--seconds", "0", "--models-dir", str(tiny_models), "--results", str(results)]
    bench.main([*fixed, "--only", "schnell", "--batches", "2", "--parts", ";".join(wanted)])
    figures = {(one["part"], one["name"]): one for one in json.loads(results.read_text())["figures"]}
    assert figures["ceilings", "matmul"]["value"] > 0
    assert figures["engine", "batches of 2"]["value"] > 0
    assert figures["engine", "batches of 2"].keys() >= {"plain", "floor"}
    assert figures["fp8", "batches of 2"].keys() >= {"plain", "engine", "floor", "float8 floor"}
    assert figures["engine", "a picture of a batch beside the same alone"]["value"] <= 1
    assert 0 < figures["fp8", "pictures beside those of the plain engine"]["value"] < 10
    assert figures["compile reduce-overhead", "pictures beside those of the plain engine"]["value"] == 0
    assert "guidance of the kind embedded" in figures["taylorseer", "not measured"]["note"]
    printed = capsys.readouterr().out
    assert "schnell: fp8: batches of 2" in printed
    assert "× floor" in printed


#: Writes a figure for each part, but hangs in one and is killed in another.
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
from bench.gpu.figures import Figure, Journal, Mark
task = json.loads(sys.argv[1])
journal = Journal(Path(task["journal"]))
for part in task["parts"]:
    journal.write(Mark(part, 0.5 if part == "hangs" else 100))
    if part == "hangs":
        time.sleep(1000)
    if part == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    journal.write(Figure(task["workload"], part, "measured", 1.0))
    journal.write(Mark(part, None))
"""


def measured(tmp_path: Path, names: tuple[str, ...], seconds: float) -> dict[str, str]:
    """By part, the name of its figure, or why there is none."""
    task = Task("work", names, "cpu", True, str(tmp_path), str(tmp_path / "journal"), (), 0.0, share_s=seconds)
    figures: list[Figure] = []
    supervisor.measure(task, time.monotonic() + seconds, figures.append, ("-c", STAND_IN))
    return {figure.part: figure.note or figure.name for figure in figures}


def test_a_part_that_hangs_or_kills_its_process_costs_itself_alone(tmp_path: Path) -> None:
    assert measured(tmp_path, ("first", "hangs", "second", "dies", "third"), HANG_S) == {
        "first": "measured",
        "hangs": "it took longer than it may",
        "second": "measured",
        "dies": "its process ended with -9",
        "third": "measured",
    }


def test_what_there_is_no_time_for_says_so(tmp_path: Path) -> None:
    assert measured(tmp_path, ("first", "second"), -1) == {"first": "no time left", "second": "no time left"}


@pytest.mark.parametrize(("option", "known"), [("--only", "lightning"), ("--parts", "compile regional")])
def test_an_unknown_name_is_refused_with_those_there_are(
    option: str, known: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        bench.main([option, "lightening"])
    assert known in capsys.readouterr().err

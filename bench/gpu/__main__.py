"""The command line of the GPU benchmark.

    python -m bench.gpu                             every workload at full size on the GPU, in under ten minutes
    python -m bench.gpu --only lightning,schnell    some of them
    python -m bench.gpu --parts engine,farm         some figures (checkpoints and flops come along)
    python -m bench.gpu --device cpu --tiny         the same with tiny checkpoints, but what compiles: minutes on a CPU

Weights are random and made on the device; nothing is downloaded. docs/performance.md says how to read the lines. Every
figure is printed and written to bench/results/gpu.json as soon as it is known: it survives what happens next.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from bench.gpu.figures import DEVICE
from bench.gpu.measuring import Task
from bench.gpu.parts import PARTS
from bench.gpu.report import Report
from bench.gpu.supervisor import measure, names_of
from bench.workloads import FULL, TINY, Workload
from shared.catalog import catalog

RESULTS = Path(__file__).parents[1] / "results" / "gpu.json"
#: All is over in ten minutes, with what it takes to stop a farm.
BUDGET_S = 560.0
#: A rate is measured for at least this long; of tiny checkpoints it says nothing.
_MEASURE_S = 3.0
#: What every other part needs.
_FIRST = ("checkpoints", "flops")
#: How much of the time is for a workload: those of FLUX load five times the weights.
_WEIGHTS = {"lightning": 3, "schnell": 4, "base": 2, "fill": 3}


def run(task: Task, workloads: Sequence[Workload], budget_s: float, report: Report) -> None:
    """Measure the workloads one after the other; what one leaves of its share of the time the next ones have."""
    deadline = time.monotonic() + budget_s
    scratch = Path(task.models_dir)
    measure(_task(task, DEVICE, ("ceilings",), budget_s), deadline, report.note)
    for index, workload in enumerate(workloads):
        rest = workloads[index:]
        share = _WEIGHTS[workload.name] / sum(_WEIGHTS[one.name] for one in rest)
        share_s = max(0.0, deadline - time.monotonic()) * share
        measure(_task(task, workload.name, task.parts, share_s), deadline, report.note)
        if not task.tiny:
            # Full-size weights of all models together are more than many a disk holds.
            later = {source for one in rest[1:] for source in one.sources(catalog())}
            for source in workload.sources(catalog()) - later:
                shutil.rmtree(scratch / source, ignore_errors=True)


def _task(task: Task, workload: str, parts: tuple[str, ...], share_s: float) -> Task:
    journal = str(Path(task.models_dir) / "journal.jsonl")
    return replace(task, workload=workload, parts=parts, journal=journal, share_s=share_s)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description="Images per second on this device.")
    parser.add_argument("--device", default="cuda", help="torch's name of the device (default: cuda)")
    parser.add_argument("--tiny", action="store_true", help="tiny checkpoints and 256×256 pictures")
    parser.add_argument("--only", default="", help="comma-separated workloads: " + ", ".join(one.name for one in FULL))
    parser.add_argument("--parts", default="", help="semicolon-separated parts: " + "; ".join(PARTS))
    parser.add_argument("--batches", default="", help="comma-separated batch sizes of the plain engine")
    parser.add_argument("--seconds", type=float, help="how long each rate is measured (default: 3, tiny: 0)")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds after which all is over")
    parser.add_argument("--models-dir", type=Path, help="where checkpoints are made (default: a temporary folder)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file to write")
    given = parser.parse_args(arguments)

    workloads = {one.name: one for one in (TINY if given.tiny else FULL)}
    usual = [name for name in PARTS if "compile" not in name] if given.tiny else []
    try:
        only = names_of(list(workloads), _list(given.only, ","))
        parts = names_of(list(PARTS), (*_FIRST, *_list(given.parts, ";")) if given.parts else usual)
    except ValueError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory(prefix="rendermill-bench-") as scratch:
        models_dir = str(given.models_dir or scratch)
        batches = tuple(int(size) for size in _list(given.batches, ","))
        seconds = given.seconds if given.seconds is not None else 0.0 if given.tiny else _MEASURE_S
        task = Task("", parts, given.device, given.tiny, models_dir, "", batches, seconds)
        report = Report(given.results, _about(given.device, given.tiny))
        run(task, [workloads[name] for name in only], given.budget, report)
    print("\n" + "\n".join(report.summary()))


def _list(text: str, separator: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(separator) if part.strip())


def _about(device: str, tiny: bool) -> dict[str, object]:
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine(),
        "checkpoints": "tiny" if tiny else "full size, random weights",
        "versions": {name: version(name) for name in ("rendermill", "torch", "diffusers", "transformers")},
    }


if __name__ == "__main__":
    main()

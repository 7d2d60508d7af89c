"""The process that measures one workload, part after part.

    python -m bench.gpu.measuring JSON      what to measure, as `Task`

Its figures go to a journal as they come. Whoever started it watches there, and ends it where a part takes too long.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.gpu.figures import DEVICE, Figure, Journal, Mark
from bench.gpu.parts import PARTS, Bench, free, measure_device
from bench.workloads import FULL, TINY

#: Limits are those of a GPU at full size; tiny checkpoints go where tests do, on small machines that others use too.
_TINY_PATIENCE = 10
_CEILINGS_S = 60


@dataclass(frozen=True, slots=True)
class Task:
    """What to measure, and where to write it."""

    #: A workload's name, or `device` for the ceilings.
    workload: str
    parts: tuple[str, ...]
    device: str
    tiny: bool
    models_dir: str
    journal: str
    batches: tuple[int, ...]
    measure_s: float
    #: Seconds after which no part is begun any more.
    share_s: float = 0.0

    @property
    def as_json(self) -> str:
        return json.dumps(asdict(self))


def run(task: Task) -> None:
    """Measure the parts; one that raises leaves a figure that says so."""
    journal = Journal(Path(task.journal))
    workloads = {workload.name: workload for workload in (TINY if task.tiny else FULL)}
    workload = workloads.get(task.workload, next(iter(workloads.values())))
    bench = Bench(
        workload, task.device, task.tiny, Path(task.models_dir), task.batches, task.measure_s, note=journal.write
    )
    ends_at = time.monotonic() + task.share_s
    for name in task.parts:
        if time.monotonic() > ends_at:
            journal.write(Figure(task.workload, name, "not measured", None, "", "no time left"))
            continue
        limit_s = PARTS[name].limit_s if name in PARTS else _CEILINGS_S
        journal.write(Mark(name, limit_s * (_TINY_PATIENCE if task.tiny else 1)))
        try:
            if task.workload == DEVICE:
                measure_device(bench)
            else:
                PARTS[name].measure(bench)
        except Exception as error:
            # Whatever one part runs into, the others are worth their figures.
            traceback.print_exc()
            note = f"{type(error).__name__}: {str(error).strip()[:300]}"
            journal.write(Figure(task.workload, name, "not measured", None, "", note))
        free()
        journal.write(Mark(name, None))


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    run(Task(**given | {"parts": tuple(given["parts"]), "batches": tuple(given["batches"])}))

"""A process for each workload, watched.

A part that takes longer than it may, or takes its process down with it, as a fault of the device does, costs itself
alone: a new process goes on with the next part. Nothing outlives the deadline.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bench.gpu.figures import Figure, Journal
from bench.gpu.measuring import Task

#: Interrupted, a process stops the farm that it may have started.
_STOP_S = 30.0
#: From the start of a process to its first mark it imports torch.
_START_S = 120.0
_POLL_S = 0.1


@dataclass(slots=True)
class _Run:
    """One process, and how far its journal was read."""

    process: subprocess.Popen[bytes]
    part: str
    ends_at: float
    position: int = 0


def measure(
    task: Task, deadline: float, note: Callable[[Figure], None], program: Sequence[str] = ("-m", "bench.gpu.measuring")
) -> None:
    """Measure the task's parts, as many as can be begun in its share of time; `note` gets each figure as it comes.

    Nothing goes on after `deadline`, by the monotonic clock. `program` is what Python runs, with the task as argument.
    """
    waiting = list(task.parts)
    share_ends_at = min(deadline, time.monotonic() + task.share_s)
    while waiting:
        share_s = share_ends_at - time.monotonic()
        if share_s < 0:
            for part in waiting:
                note(Figure(task.workload, part, "not measured", None, "", "no time left"))
            return
        ended_in, reason = _watch(replace(task, parts=tuple(waiting), share_s=share_s), deadline, note, program)
        if not reason:
            return
        note(Figure(task.workload, ended_in, "not measured to its end", None, "", reason))
        waiting = waiting[waiting.index(ended_in) + 1 :]


def _watch(task: Task, deadline: float, note: Callable[[Figure], None], program: Sequence[str]) -> tuple[str, str]:
    """Run one process. The part it ended in, and why it did not get to the end; an empty reason where it did."""
    journal = Journal(Path(task.journal))
    Path(task.journal).unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, *program, task.as_json], stdout=subprocess.DEVNULL)
    run = _Run(process, task.parts[0], min(deadline, time.monotonic() + _START_S))
    try:
        while True:
            ended = process.poll() is not None
            _read(journal, run, deadline, note)
            if ended:
                code = process.returncode
                return run.part, f"its process ended with {code}" if code else ""
            if time.monotonic() > run.ends_at:
                return run.part, "no time left" if time.monotonic() > deadline else "it took longer than it may"
            time.sleep(_POLL_S)
    finally:
        _stop(process)


def _read(journal: Journal, run: _Run, deadline: float, note: Callable[[Figure], None]) -> None:
    for entry, position in journal.read(run.position):
        run.position = position
        if isinstance(entry, Figure):
            note(entry)
        elif entry.limit_s is not None:
            run.part, run.ends_at = entry.part, min(deadline, time.monotonic() + entry.limit_s)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
        return
    process.kill()
    process.wait()


def names_of(parts: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """The parts that are wanted, in the order in which they are measured; all where none is named.

    Raises ValueError for a name that there is not.
    """
    if unknown := set(wanted) - set(parts):
        raise ValueError(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    return tuple(part for part in parts if not wanted or part in wanted)

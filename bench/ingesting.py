"""A process that ingests the batches that wait, as an upkeep worker does, and tells what that took.

`python -m bench.ingesting` prints a `Took` as JSON. The farm is that of its settings.
"""

from __future__ import annotations

import json
import re
import resource
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from bench.jobs import new_scheduler
from bench.measuring import seconds
from shared.redis_client import connect
from shared.settings import settings
from worker.batching import batch_worker


@dataclass(frozen=True, slots=True)
class Took:
    wall_s: float
    #: Of this process alone.
    cpu_s: float
    #: By how much its resident memory ever exceeded what it was before the first line.
    memory_mb: float


def main() -> None:
    config = settings()
    redis = connect(config.redis_url)
    worker = batch_worker(config, redis, new_scheduler(redis))
    idle = psutil.Process().memory_info().rss
    cpu_before = time.process_time()
    wall_s = seconds(worker.work_due)
    cpu_s = time.process_time() - cpu_before
    print(json.dumps(asdict(Took(wall_s, cpu_s, (_peak_bytes() - idle) / 1e6))))


def _peak_bytes() -> int:
    """The most resident memory that this process ever had."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux hands ru_maxrss down from the process that starts another, which may have been larger.
    peak_kib = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
    assert peak_kib is not None
    return int(peak_kib[1]) * 1024


if __name__ == "__main__":
    main()

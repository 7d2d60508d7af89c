"""What a farm does to its machine and its other users while something large goes through it."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles

import httpx
import psutil
from redis import Redis

#: How often memory is looked at, and another user asks for something small.
_EVERY_S = 0.25
#: Redis serves one command at a time: what takes longer than this is felt by everybody.
SLOW_MS = 50
_SLOWLOG_KEPT = 1000


@dataclass
class Seen:
    """What was seen while a farm was watched."""

    #: Most resident megabytes of each process and its children, and those at the start.
    peak_mb: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    idle_mb: dict[str, float] = field(default_factory=dict)
    #: Milliseconds of each small request of another user.
    answers_ms: list[float] = field(default_factory=list)
    #: Commands that held Redis longer than `SLOW_MS`: milliseconds and the command's beginning.
    slow: list[tuple[float, str]] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """For people."""
        if len(self.answers_ms) > 1:
            late = quantiles(self.answers_ms, n=100)[98]
            yield (
                f"another user's GET: median {median(self.answers_ms):.0f} ms, 99 % within {late:.0f} ms, "
                f"longest {max(self.answers_ms):.0f} ms, of {len(self.answers_ms)}"
            )
        for name, peak in self.peak_mb.items():
            yield f"memory of {name}: {self.idle_mb[name]:.0f} MB at the start, {peak:.0f} MB at most"
        yield f"commands that held Redis for more than {SLOW_MS} ms: {len(self.slow)}"
        for took_ms, command in sorted(self.slow, reverse=True)[:10]:
            yield f"  {took_ms:.0f} ms: {command}"


@contextmanager
def watched(url: str, key: str, redis: Redis, processes: Mapping[str, int]) -> Iterator[Seen]:
    """Watch a farm during a `with` block; `processes` are the ids of its processes by name."""
    seen, stop = Seen(), threading.Event()
    redis.config_set("slowlog-log-slower-than", SLOW_MS * 1000)
    redis.config_set("slowlog-max-len", _SLOWLOG_KEPT)
    redis.slowlog_reset()
    seen.idle_mb = {name: _resident_mb(pid) for name, pid in processes.items()}

    def look() -> None:
        while not stop.wait(_EVERY_S):
            for name, pid in processes.items():
                seen.peak_mb[name] = max(seen.peak_mb[name], _resident_mb(pid))

    def ask() -> None:
        with httpx.Client(base_url=url, headers={"x-api-key": key}, timeout=60) as http:
            while not stop.wait(_EVERY_S):
                began = time.perf_counter()
                http.get("/v1/account").raise_for_status()
                seen.answers_ms.append(1000 * (time.perf_counter() - began))

    threads = [threading.Thread(target=target, daemon=True) for target in (look, ask)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        seen.slow = [
            (entry["duration"] / 1000, entry["command"].decode(errors="replace")[:100])
            for entry in redis.slowlog_get(_SLOWLOG_KEPT)
        ]


def _resident_mb(pid: int) -> float:
    """Of a process and its children; what they share counts once for each."""
    total = 0
    try:
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total / 2**20

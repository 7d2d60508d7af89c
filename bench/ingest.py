"""A batch file in S3 becomes jobs, by the code and in a process of an upkeep worker.

Every line is read from S3, parsed, judged by the schemas of the HTTP API and the catalog, and accepted; the process is
running already, as a worker is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench.celery_peer import APPLY_ASYNC, apply_async_rate
from bench.ingesting import Took
from bench.jobs import ACCOUNT, body
from bench.measuring import Row, Target, in_turn
from bench.processes import Broker, answer_of, broker, cpu_clock, cpu_s, environment, python, s3
from bench.sizes import Sizes
from shared.batches import Batches
from shared.files import File, Files, file_key
from shared.jobs import Priority
from shared.settings import Settings
from shared.storage import Storage

#: How much smaller a batch is whose memory is compared.
_SMALLER = 10


class LinesMissing(Exception):
    """Not every line became a job."""


def run(sizes: Sizes, scratch: Path) -> list[Row]:
    with broker(scratch) as server, s3(scratch) as stored:
        config = replace(stored.settings, redis_url=server.url)
        files = {lines: _upload(config, lines) for lines in (sizes.batch, sizes.batch // _SMALLER)}

        def ingest(lines: int = sizes.batch) -> tuple[Took, float]:
            """What it took the process, and CPU seconds of the process and Valkey."""
            server.redis.flushdb()
            _create(server, files[lines])
            before = cpu_s(server.redis)
            took = Took(**json.loads(answer_of(python("ingesting", "-m", "bench.ingesting"), environment(config))))
            cpu = took.cpu_s + cpu_s(server.redis) - before
            if (accepted := server.redis.zcard(f"rm:jobs:{ACCOUNT}:queued")) != lines:
                raise LinesMissing(f"{accepted} of {lines} lines became jobs")
            return took, cpu

        return [
            Row(
                "ingest a batch file from S3",
                "lines/s",
                APPLY_ASYNC,
                in_turn(
                    sizes.rounds,
                    lambda: sizes.batch / ingest()[0].wall_s,
                    lambda: apply_async_rate(server, sizes.measure_s, time.perf_counter),
                ),
                Target(6, at_least=True),
            ),
            Row(
                "the same, by CPU time",
                "lines/CPU s",
                APPLY_ASYNC,
                in_turn(
                    sizes.rounds,
                    lambda: sizes.batch / ingest()[1],
                    lambda: apply_async_rate(server, sizes.measure_s, cpu_clock(server.peer_redis)),
                ),
            ),
            # Memory does not depend on what else the machine does: once is enough.
            Row(
                "memory of the ingesting process above idle",
                "MB",
                "a tenth of the lines",
                in_turn(1, lambda: ingest()[0].memory_mb, lambda: ingest(sizes.batch // _SMALLER)[0].memory_mb),
                Target(50, at_least=False, on_ratio=False),
            ),
        ]


def _upload(config: Settings, lines: int) -> File:
    """A file of so many lines in S3."""

    def texts() -> Iterator[bytes]:
        for number in range(lines):
            line = {"custom_id": f"line-{number}", "method": "POST", "url": "/v1/jobs", "body": body(number)}
            yield json.dumps(line).encode() + b"\n"

    id_ = f"file_{lines}"
    size = Storage(config).put_stream(file_key(id_), texts(), "application/jsonl")
    return File(
        id=id_,
        account=ACCOUNT,
        filename="bench.jsonl",
        purpose="batch",
        bytes=size,
        created_at=time.time(),
        expires_at=None,
    )


def _create(server: Broker, file: File) -> None:
    """Hand the file in as a batch."""
    Files(server.redis).add(file)
    Batches(server.redis).create(
        ACCOUNT,
        input_file=file.id,
        endpoint="/v1/jobs",
        window="24h",
        window_s=86400,
        priority=Priority.LOW,
        metadata=None,
    )

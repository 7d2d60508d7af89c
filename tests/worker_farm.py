"""A farm without its front door: Valkey, S3 and real worker processes, for tests that hurt them.

Jobs are accepted as the front door accepts them, through the scheduler; tickets are upkeep's affair.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
from redis import Redis

from shared.batches import Batches
from shared.catalog import load_catalog
from shared.deliveries import Deliveries
from shared.events import Events
from shared.files import File, Files, file_key
from shared.ids import new_id
from shared.images import Images
from shared.jobs import Job, NewJob, Priority
from shared.outputs import output_prefix
from shared.records import Records
from shared.redis_client import connect
from shared.requests import resolve
from shared.scheduler import Scheduler
from shared.settings import Settings
from shared.storage import Storage
from tests.servers import PATIENCE_S, tail, wait_until

Kind = TypeVar("Kind", bound="WorkerFarm")

ACCOUNT = "alice"
MODEL = "stabilityai/stable-diffusion-xl-base-1.0"
#: Longer than upkeep waits to hear of workers whose Redis was away, or who stood still together with it: a machine that
#: stalls costs no lease.
LEASE_S = 4.0


class Hooks:
    """A receiver that keeps the ids of what it is sent, by job.

    What was sent, but could not be noted because Redis was away, is sent again: under its id, by which it is known.
    """

    def __init__(self) -> None:
        hooks = self
        self.received: defaultdict[str, set[str]] = defaultdict(set)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                hooks.take(self.headers["webhook-id"], body["data"]["id"])
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def take(self, message: str, job: str) -> None:
        """A message about a job has come; it is answered when this returns."""
        self.received[job].add(message)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class WorkerFarm:
    def __init__(self, directory: Path, redis_url: str, s3: Settings, models: Path, hooks: Hooks) -> None:
        self.redis_url = redis_url
        self.redis: Redis = connect(redis_url)
        self.scheduler = Scheduler(self.redis, lease_s=LEASE_S, max_attempts=3, retry_delay_s=0.5)
        self.storage = Storage(s3)
        self.hooks = hooks
        self._directory = directory
        self._catalog = load_catalog(Settings().catalog_path)
        self._processes: list[subprocess.Popen[bytes]] = []
        #: The logs of those that nobody has told to end.
        self._wanted: dict[subprocess.Popen[bytes], Path] = {}
        self._settings = {
            "REDIS_URL": redis_url,
            "S3_ENDPOINT": s3.s3_endpoint,
            "S3_ACCESS_KEY": s3.s3_access_key,
            "S3_SECRET_KEY": s3.s3_secret_key,
            "S3_REGION": s3.s3_region,
            "MODELS_DIR": str(models),
            "MODELS_OFFLINE": "1",
            "MODELS": MODEL,
            "PRELOAD": MODEL,
            "LEASE_S": str(LEASE_S),
            "RETRY_DELAY_S": "0.5",
            "EGRESS_ALLOW": "127.0.0.0/8",
            "WEBHOOK_RETRY_S": "1,1,1,1",
        }

    def log(self, role: str) -> str:
        """What the processes of a role have said."""
        return (self._directory / f"{role}.log").read_text()

    def start(self, role: str, settings: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a worker process, and wait until it takes tickets."""
        path = self._directory / f"{role}.log"
        path.touch()
        ready_before = path.read_text().count("ready.")
        values = {f"RENDERMILL_{name}": value for name, value in {**self._settings, **(settings or {})}.items()}
        with path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker", role],
                env={**os.environ, **values, "TMPDIR": str(self._directory)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._processes.append(process)
        self._wanted[process] = path
        self.wait_until(lambda: path.read_text().count("ready.") > ready_before, f"{role} is ready")
        return process

    def end(self, process: subprocess.Popen[bytes], signum: signal.Signals) -> int:
        """Send a worker process a signal of which it ends; its exit code."""
        process.send_signal(signum)
        return self.wait_for_end(process)

    def wait_for_end(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the end of a worker process that is to end; its exit code."""
        self._wanted.pop(process, None)
        return process.wait(PATIENCE_S)

    def has_ended(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether a worker process has ended; if so, that is no failure from now on."""
        if process.poll() is None:
            return False
        self._wanted.pop(process, None)
        return True

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for what the workers do. Fails at once where one of them ended unbidden, with its last words."""

        def holds() -> object:
            for process, log in self._wanted.items():
                if (status := process.poll()) is not None:
                    pytest.fail(f"{what}: cannot be, a worker ended with {status}. It said:\n{tail(log)}")
            return condition()

        wait_until(holds, what)

    def stop(self) -> None:
        """Kill whatever still runs."""
        for process in self._processes:
            process.kill()
            process.wait()
        self.redis.close()

    def accept(self, count: int = 1, *, steps: int = 2, **fields: Any) -> list[str]:
        """Accept jobs of 256 pixels, each with a webhook; their ids."""
        jobs = []
        for seed in range(count):
            body = {"model": MODEL, "prompt": "a cat", "width": 256, "height": 256, "num_steps": steps, "seed": seed}
            request, _ = resolve(self._catalog, {**body, **fields})
            cost = request.cost(self._catalog.find(MODEL))
            job = NewJob(id=new_id("job"), account=ACCOUNT, request=request, cost=cost, webhook_url=self.hooks.url)
            jobs.append(job)
        self.scheduler.enqueue(ACCOUNT, jobs)
        return [job.id for job in jobs]

    def hand_in(self, lines: Iterable[bytes], account: str = ACCOUNT) -> str:
        """Upload a file and make it a batch of the native API; the batch's id."""
        file_id = new_id("file")
        size = self.storage.put_stream(file_key(file_id), lines, "application/jsonl")
        Files(self.redis).add(
            File(
                id=file_id,
                account=account,
                filename="x",
                purpose="batch",
                bytes=size,
                created_at=time.time(),
                expires_at=None,
            )
        )
        batch_id, _ = Batches(self.redis).create(
            account,
            input_file=file_id,
            endpoint="/v1/jobs",
            window="24h",
            window_s=86400,
            priority=Priority.LOW,
            metadata=None,
        )
        return batch_id

    def jobs(self, ids: list[str]) -> list[Job]:
        return [job for job in Records(self.redis).read(ids) if job is not None]

    def begin(self, steps: int) -> str:
        """Accept a job and wait until it is in the middle of its rendering; its id."""
        while True:
            (id_,) = self.accept(1, steps=steps)
            self.wait_until(lambda id_=id_: self.jobs([id_])[0].progress > 0, f"{id_} is being rendered")
            # It may be over before a machine that stalls has let us look at it: then with another.
            if self.jobs([id_])[0].progress < 0.6:
                return id_

    def wait_finished(self, ids: list[str]) -> None:
        """Wait until the jobs are finished and their webhooks sent."""
        self.wait_until(lambda: all(job.status.is_terminal for job in self.jobs(ids)), "all jobs are finished")
        self.wait_until(lambda: all(self.hooks.received[id_] for id_ in ids), "all webhooks are sent")

    def check_history(self, ids: list[str]) -> None:
        """Every job succeeded, its last event tells so, in one webhook, and pictures that are stored."""
        for job in self.jobs(ids):
            assert job.status == "succeeded", f"{job.id}: {job.error}"
            assert not self.redis.exists(f"rm:events:{job.id}"), "nothing was told of it after its end"
            assert [event.status for event in Events(self.redis).since(job.id, "0")] == ["succeeded"]
            images = Images(self.redis).read(job.images)
            assert len(images) == job.request.n
            assert {image.key for image in images.values()} <= set(self.storage.keys(output_prefix(job.id)))
            deliveries = [
                delivery
                for delivery in Deliveries(self.redis).page(ACCOUNT, limit=1000, after=None)[0]
                if delivery.job == job.id
            ]
            assert [delivery.event for delivery in deliveries] == ["job.succeeded"]
            assert self.hooks.received[job.id] == {deliveries[0].id}
        assert self.redis.zcard("rm:leases") == 0


def batch_line(number: int) -> bytes:
    """A line of a batch file, for a picture of its own."""
    body = {"model": MODEL, "prompt": f"fox {number}", "width": 256, "height": 256, "seed": number}
    line = {"custom_id": f"line-{number}", "method": "POST", "url": "/v1/jobs", "body": body}
    return json.dumps(line).encode() + b"\n"


@contextmanager
def worker_farm(
    directory: Path, redis_url: str, s3: Settings, models: Path, kind: type[Kind] = WorkerFarm
) -> Iterator[Kind]:
    """A farm whose worker processes the test starts; killed in the end."""
    with Hooks() as hooks:
        farm = kind(directory, redis_url, s3, models, hooks)
        try:
            farm.storage.ensure_bucket()
            yield farm
        finally:
            farm.stop()

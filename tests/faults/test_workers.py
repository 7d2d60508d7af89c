"""Workers, Valkey and S3 are killed, frozen and cut off: every accepted job is finished, once, with one webhook.

The tests share one farm. Before each it is made whole, whatever became of the one before.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from farm import parts
from shared.images import Images
from shared.outputs import output_key, output_prefix
from shared.settings import Settings
from tests.faults.proxy import Proxy
from tests.servers import running, s3_answers, valkey_answers, wait_until
from tests.worker_farm import WorkerFarm, worker_farm
from worker.heartbeat import EXIT_STUCK
from worker.litter import Litter

PASSWORD = "test-password"
#: About three seconds of rendering on two slow cores: time to be killed in.
LONG = 60


class Server:
    """One that can be killed, and started again on the same data."""

    def __init__(self, program: parts.Program, log: Path, answers: Callable[[], bool]) -> None:
        self._program, self._log, self._answers = program, log, answers
        self._running = ExitStack()
        self._runs = False

    def ensure_running(self) -> None:
        """Start it where it does not run, and wait until it answers."""
        if not self._runs:
            self._running.enter_context(running(self._program, self._log))
            self._runs = True
        wait_until(self._answers, f"{self._program.name} answers")

    def kill(self) -> None:
        self._running.close()
        self._runs = False


class Farm(WorkerFarm):
    valkey: Server
    s3: Server
    proxy: Proxy
    upkeep: subprocess.Popen[bytes]
    render: subprocess.Popen[bytes] | None = None

    def start_render(self, **settings: str) -> subprocess.Popen[bytes]:
        """A render worker, which reaches Valkey through the proxy."""
        return self.start("render", {"REDIS_URL": parts.valkey_url(self.proxy.port, PASSWORD), **settings})

    def ensure_whole(self) -> None:
        """See that both servers and both workers run."""
        self.valkey.ensure_running()
        self.s3.ensure_running()
        if self.has_ended(self.upkeep):
            self.upkeep = self.start("upkeep")
        if self.render is None or self.has_ended(self.render):
            self.render = self.start_render()


@contextmanager
def standing_still(process: subprocess.Popen[bytes]) -> Iterator[None]:
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Iterator[Farm]:
    """A farm with an upkeep worker, and no render worker yet."""
    directory = tmp_path_factory.mktemp("workers")
    valkey_port, s3_port = parts.free_port(), parts.free_port()
    valkey_url = parts.valkey_url(valkey_port, PASSWORD)
    settings = Settings(
        s3_endpoint=f"http://{parts.LOOPBACK}:{s3_port}",
        s3_access_key=parts.S3_ACCESS_KEY,
        s3_secret_key="test-secret-key",
        s3_region=parts.S3_REGION,
    )
    valkey = Server(
        parts.valkey(directory / "valkey", valkey_port, PASSWORD),
        directory / "valkey.log",
        lambda: valkey_answers(valkey_url),
    )
    s3 = Server(
        parts.s3(directory / "objects", s3_port, settings.s3_secret_key),
        directory / "s3.log",
        lambda: s3_answers(settings),
    )
    try:
        valkey.ensure_running()
        s3.ensure_running()
        with (
            Proxy(valkey_port) as proxy,
            worker_farm(directory, valkey_url, settings, tiny_models, Farm) as farm,
        ):
            farm.valkey, farm.s3, farm.proxy = valkey, s3, proxy
            farm.upkeep = farm.start("upkeep")
            yield farm
    finally:
        s3.kill()
        valkey.kill()


@pytest.fixture
def farm(servers: Farm) -> Farm:
    servers.ensure_whole()
    return servers


def test_the_work_of_a_worker_on_half_open_connections_is_done(servers: Farm) -> None:
    farm = servers
    # A short patience for this one alone: where other things are away for seconds, no worker should exit.
    worker = farm.start_render(LEASE_S="1", WATCHDOG_S="1")
    farm.proxy.freeze()
    ids = farm.accept(3)
    # Celery may be the first to notice; then the worker goes on. Else it exits, and is started again as its supervisor
    # would.
    wait_until(
        lambda: farm.has_ended(worker) or all(job.status.is_terminal for job in farm.jobs(ids)), "the hang is noticed"
    )
    if farm.has_ended(worker):
        assert worker.returncode == EXIT_STUCK
        assert "no ticket reaches this worker" in farm.log("render")
    else:
        farm.end(worker, signal.SIGTERM)
    farm.ensure_whole()
    farm.wait_finished(ids)
    farm.check_history(ids)


def test_a_job_whose_worker_is_killed_is_finished_once_by_another(farm: Farm) -> None:
    ids = [farm.begin(LONG)]
    farm.end(farm.render, signal.SIGKILL)
    farm.ensure_whole()
    farm.wait_finished(ids)
    farm.check_history(ids)
    assert farm.jobs(ids)[0].attempts > 1


def test_a_worker_that_wakes_up_after_its_lease_changes_nothing_and_works_on(farm: Farm) -> None:
    ids = [farm.begin(LONG)]
    first = farm.render
    with standing_still(first):
        # What it may have stored before it stood still.
        farm.storage.put(output_key(ids[0], 1, 0, "jpeg"), b"of the first attempt", "image/jpeg")
        farm.render = farm.start_render()
        farm.wait_finished(ids)
    farm.wait_until(lambda: "lost the lease" in farm.log("render"), "the first worker notices")
    farm.check_history(ids)
    winner = farm.jobs(ids)[0]
    assert winner.attempts > 1
    Litter(farm.redis).sweep(farm.storage)
    (image,) = Images(farm.redis).read(winner.images).values()
    assert farm.storage.keys(output_prefix(ids[0])) == [image.key]
    assert image.key != output_key(ids[0], 1, 0, "jpeg")
    farm.end(farm.render, signal.SIGTERM)
    farm.render = first
    later = farm.accept(1)
    farm.wait_finished(later)
    farm.check_history(later)


def test_every_accepted_job_is_finished_though_valkey_is_killed(farm: Farm) -> None:
    ids = farm.accept(30, steps=4)
    farm.wait_until(lambda: any(job.status.is_terminal for job in farm.jobs(ids)), "the first job is finished")
    farm.valkey.kill()
    time.sleep(6)  # longer than redis-py waits by itself
    farm.valkey.ensure_running()
    # Fails where a worker had to be started again.
    farm.wait_finished(ids)
    farm.check_history(ids)


def test_finished_pictures_wait_for_storage_that_is_away_for_a_while(farm: Farm) -> None:
    said_before = len(farm.log("render"))

    def said(words: str) -> int:
        return farm.log("render")[said_before:].count(words)

    farm.s3.kill()
    ids = farm.accept(3)
    farm.wait_until(lambda: said("trying again") > 1, "a picture waits")
    assert not any(job.status.is_terminal for job in farm.jobs(ids))
    farm.s3.ensure_running()
    farm.wait_finished(ids)
    farm.check_history(ids)
    assert not said("failed, now"), "no attempt was spent"

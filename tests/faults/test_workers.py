"""Workers, Valkey and S3 are killed, frozen and cut off: every accepted job is finished, once, with one webhook.

The tests share one farm. Each begins and ends with an upkeep worker and a render worker that are well.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from farm import parts
from shared.images import Images
from shared.outputs import output_key, output_prefix
from shared.settings import Settings
from tests.faults.proxy import Proxy
from tests.servers import PATIENCE_S, running, s3_answers, valkey_answers, wait_until
from tests.worker_farm import WorkerFarm, end, worker_farm
from worker.heartbeat import EXIT_STUCK
from worker.litter import Litter

#: About three seconds of rendering on two slow cores: time to be killed in.
LONG = 60


class Servers:
    """Valkey and S3 that can be killed and started again on the same data."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._valkey_port, self._s3_port = parts.free_port(), parts.free_port()
        self._running = ExitStack()
        self.valkey_url = parts.valkey_url(self._valkey_port, "test-password")
        self.valkey_port = self._valkey_port
        self.s3_settings = Settings(
            s3_endpoint=f"http://{parts.LOOPBACK}:{self._s3_port}",
            s3_access_key=parts.S3_ACCESS_KEY,
            s3_secret_key="test-secret-key",
            s3_region=parts.S3_REGION,
        )

    def start_valkey(self) -> subprocess.Popen[bytes]:
        program = parts.valkey(self._directory / "valkey", self._valkey_port, "test-password")
        process = self._running.enter_context(running(program, self._directory / "valkey.log"))
        wait_until(lambda: valkey_answers(self.valkey_url), "Valkey answers")
        return process

    def start_s3(self) -> subprocess.Popen[bytes]:
        program = parts.s3(self._directory / "objects", self._s3_port, self.s3_settings.s3_secret_key)
        process = self._running.enter_context(running(program, self._directory / "s3.log"))
        wait_until(lambda: s3_answers(self.s3_settings), "S3 answers")
        return process

    def stop(self) -> None:
        self._running.close()


class Farm(WorkerFarm):
    servers: Servers
    proxy: Proxy
    valkey: subprocess.Popen[bytes]
    s3: subprocess.Popen[bytes]
    render: subprocess.Popen[bytes]

    def start_render(self) -> subprocess.Popen[bytes]:
        """A render worker, which reaches Valkey through the proxy."""
        url = parts.valkey_url(self.proxy.port, "test-password")
        return self.start("render", {"REDIS_URL": url})


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Iterator[Farm]:
    directory = tmp_path_factory.mktemp("workers")
    servers = Servers(directory)
    try:
        valkey, s3 = servers.start_valkey(), servers.start_s3()
        with (
            Proxy(servers.valkey_port) as proxy,
            worker_farm(directory, servers.valkey_url, servers.s3_settings, tiny_models, Farm) as farm,
        ):
            farm.servers, farm.proxy, farm.valkey, farm.s3 = servers, proxy, valkey, s3
            farm.start("upkeep")
            farm.render = farm.start_render()
            yield farm
    finally:
        servers.stop()


def test_a_job_whose_worker_is_killed_is_finished_once_by_another(farm: Farm) -> None:
    ids = farm.accept(1, steps=LONG)
    farm.wait_for_progress(ids[0])
    end(farm.render, signal.SIGKILL, 5)
    farm.render = farm.start_render()
    farm.wait_finished(ids)
    farm.check_history(ids)
    assert farm.jobs(ids)[0].attempts == 2


def test_a_worker_that_wakes_up_after_its_lease_changes_nothing_and_works_on(farm: Farm) -> None:
    ids = farm.accept(1, steps=LONG)
    farm.wait_for_progress(ids[0])
    farm.render.send_signal(signal.SIGSTOP)
    # What it may have stored before it stood still.
    farm.storage.put(output_key(ids[0], 1, 0, "jpeg"), b"of the first attempt", "image/jpeg")
    other = farm.start_render()
    farm.wait_finished(ids)
    farm.render.send_signal(signal.SIGCONT)
    wait_until(lambda: "lost the lease" in farm.log("render"), "the first worker notices")
    farm.check_history(ids)
    winner = farm.jobs(ids)[0]
    assert winner.attempts == 2
    Litter(farm.redis).sweep(farm.storage)
    (image,) = Images(farm.redis).read(winner.images).values()
    assert farm.storage.keys(output_prefix(ids[0])) == [image.key]
    assert image.key == output_key(ids[0], 2, 0, "jpeg")
    end(other, signal.SIGTERM, 20)
    later = farm.accept(1)
    farm.wait_finished(later)
    farm.check_history(later)


def test_every_accepted_job_is_finished_though_valkey_is_killed(farm: Farm) -> None:
    ids = farm.accept(30, steps=4)
    wait_until(lambda: any(job.status.is_terminal for job in farm.jobs(ids)), "the first job is finished")
    end(farm.valkey, signal.SIGKILL, 5)
    time.sleep(6)  # longer than redis-py waits by itself
    farm.valkey = farm.servers.start_valkey()
    farm.wait_finished(ids)
    farm.check_history(ids)
    assert farm.render.poll() is None, "nobody had to be started again"


def test_finished_pictures_wait_for_storage_that_is_away_for_a_while(farm: Farm) -> None:
    end(farm.s3, signal.SIGKILL, 5)
    said_before = len(farm.log("render"))
    ids = farm.accept(3)
    wait_until(lambda: "trying again" in farm.log("render")[said_before:], "a picture waits")
    time.sleep(2)
    assert not any(job.status.is_terminal for job in farm.jobs(ids))
    farm.s3 = farm.servers.start_s3()
    farm.wait_finished(ids)
    farm.check_history(ids)
    assert {job.attempts for job in farm.jobs(ids)} == {1}


def test_a_worker_on_a_half_open_connection_exits_and_its_work_is_done_after_its_restart(farm: Farm) -> None:
    farm.proxy.freeze()
    ids = farm.accept(3)
    assert farm.render.wait(PATIENCE_S) == EXIT_STUCK
    assert "no ticket reaches this worker" in farm.log("render")
    farm.render = farm.start_render()
    farm.wait_finished(ids)
    farm.check_history(ids)

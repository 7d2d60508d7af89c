"""A whole farm for a test: `rendermill up` as its users run it, and ways to hurt it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from client import Client
from farm.datadir import DataDir
from farm.parts import free_port
from farm.runner import Runner
from tests.servers import PATIENCE_S, wait_until


class RunningFarm:
    """`rendermill up` in a process of its own. Its port, data and key stay the same when it is started again."""

    def __init__(self, data_dir: Path, models: Path, settings: Mapping[str, str] | None = None) -> None:
        """A farm to be, with the checkpoints in `models` and RENDERMILL_ settings such as {"LEASE_S": "2"}."""
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.errors = data_dir.with_name(data_dir.name + ".stderr")
        given = {"MODELS_DIR": str(models), "MODELS_OFFLINE": "1", **(settings or {})}
        self._settings = {f"RENDERMILL_{name}": value for name, value in given.items()}
        self._up: subprocess.Popen[str] | None = None

    @property
    def key(self) -> str:
        """The API key that the farm left for its user."""
        return (self.data_dir / "api-key").read_text()

    @property
    def redis_url(self) -> str:
        """Where its Valkey answers at present."""
        running = DataDir(self.data_dir).running()
        assert running is not None
        return running.redis_url

    def client(self) -> Client:
        """A client with the farm's key."""
        return Client(self.url, self.key)

    def start(self) -> None:
        """Start it, and wait for its line `ready: URL`."""
        with self.errors.open("a") as errors:
            self._up = subprocess.Popen(
                [sys.executable, "-m", "farm", "up", "--port", str(self.port), "--data-dir", str(self.data_dir)],
                env={**os.environ, **self._settings},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                preexec_fn=hear_ctrl_c,
            )
        assert self._up.stdout is not None
        line = self._up.stdout.readline()
        assert line == f"ready: {self.url}\n", f"{line!r}; it said:\n{self.errors.read_text()}"

    def stop(self) -> int:
        """Ctrl-C; its exit code."""
        return self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill -9 of `rendermill up`."""
        self._end(signal.SIGKILL)

    def pid(self, name: str) -> int:
        """The process id of `valkey`, `s3`, `upkeep`, `render` or `api`; 0 while it does not run."""
        running = DataDir(self.data_dir).running()
        assert running is not None
        return {process.name: process.pid for process in Runner(running.runner_url).processes()}[name]

    def kill_process(self, name: str) -> None:
        """Kill -9 of one of its processes, and wait until another has been started in its place."""
        pid = self.pid(name)
        # The front door's own children answer for a moment longer, and would pass for the new one.
        children = psutil.Process(pid).children(recursive=True)
        os.kill(pid, signal.SIGKILL)
        psutil.wait_procs(children, timeout=PATIENCE_S)
        wait_until(lambda: self.pid(name) not in (0, pid), f"{name} is started again")

    def restart_process(self, name: str) -> None:
        """Stop one of its processes as its operator would, and start it again."""
        running = DataDir(self.data_dir).running()
        assert running is not None
        runner = Runner(running.runner_url)
        runner.begin_stop(name)
        wait_until(lambda: self.pid(name) == 0, f"{name} has ended")
        runner.start(name)

    def is_ready(self) -> bool:
        """Whether /readyz answers 200."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def wait_ready(self) -> None:
        """Wait until it is ready, after something was killed."""
        wait_until(self.is_ready, "the farm is ready again")

    def _end(self, signum: signal.Signals) -> int:
        up, self._up = self._up, None
        if up is None:
            return 0
        with up:
            up.send_signal(signum)
            try:
                return up.wait(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                up.kill()
                raise


def hear_ctrl_c() -> None:
    """Tests that a shell runs in the background inherit an ignored SIGINT; who presses Ctrl-C has no such shell."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def running_farm(data_dir: Path, models: Path, settings: Mapping[str, str] | None = None) -> Iterator[RunningFarm]:
    """A farm that is ready, and stopped in the end."""
    farm = RunningFarm(data_dir, models, settings)
    try:
        farm.start()
        yield farm
    finally:
        farm.stop()

"""The embedded farm: every process of Rendermill on one machine, without root, Docker or accounts."""

from __future__ import annotations

import math
import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import httpx
from redis import Redis
from redis.exceptions import RedisError

from client.errors import api_error
from farm import parts
from farm.datadir import DataDir, Running, write_private
from farm.errors import FarmError
from farm.runner import START_RETRIES, OwnRunner, Process, Runner
from farm.tinymodels import ensure_tiny_models
from shared.accounts import Accounts
from shared.catalog import load_catalog
from shared.models import SYNTHETIC
from shared.settings import PREFIX, Settings, read_settings

#: Variables of the client, which servers would refuse as unknown settings.
CLIENT_VARIABLES = frozenset({f"{PREFIX}URL", f"{PREFIX}API_KEY"})
#: How long the processes of a farm that was killed may take to notice.
FORMER_FARM_S = 10.0
#: A render worker finishes the batch it is at, if that does not take longer than this; else it gives the jobs back.
DRAIN_S = 8
#: Beyond its drain time: the step it is at, and the upload of finished pictures.
RENDER_STOP_MARGIN_S = 7
UPKEEP_STOP_S = 5
_POLL_S = 0.2
#: The account of the key that a farm leaves in its data directory.
ACCOUNT = "default"

Tell = Callable[[str], None]


class EmbeddedFarm:
    """Start a farm in a data directory, watch over it, stop it.

    `tell` gets one line whenever something happens that a person who waits should know.
    """

    def __init__(self, root: Path, host: str, port: int, tell: Tell) -> None:
        """A farm to be. `port` 0 takes any free one at the start."""
        self.data_dir = DataDir(root)
        self.host = host
        self.port = port
        self._tell = tell
        self._runner: OwnRunner | None = None
        self._processes: dict[str, Process] = {}
        self._restarts: Counter[str] = Counter()

    @property
    def url(self) -> str:
        """Where clients on this machine reach the farm."""
        host = {"0.0.0.0": parts.LOOPBACK, "::": "::1"}.get(self.host, self.host)
        return f"http://{parts.address(host, self.port)}"

    def start(self) -> None:
        """Start every process at once. Raises FarmError where that cannot be done."""
        self.data_dir.lock()
        self._end_former_farm()
        self.port = self.port or parts.free_port(self.host)
        self._check_port()
        secrets = self.data_dir.secrets()
        shutil.rmtree(self.data_dir.metrics, ignore_errors=True)
        self.data_dir.metrics.mkdir()
        valkey_port, s3_port = parts.free_port(), parts.free_port()
        redis_url = parts.valkey_url(valkey_port, secrets.valkey_password)
        environment = self.environment(
            {
                "REDIS_URL": redis_url,
                "S3_ENDPOINT": f"http://{parts.LOOPBACK}:{s3_port}",
                "S3_ACCESS_KEY": parts.S3_ACCESS_KEY,
                "S3_SECRET_KEY": secrets.s3_secret_key,
                "S3_REGION": parts.S3_REGION,
                "SECRET_KEY": secrets.secret_key,
            }
        )
        settings = _read(environment)
        if f"{PREFIX}MODELS_DIR" not in os.environ and _needs_weights(settings):
            ensure_tiny_models(self.data_dir.models, self.data_dir.logs / "tiny-models.log", self._tell)
        programs = [
            parts.valkey(self.data_dir.valkey, valkey_port, secrets.valkey_password),
            parts.s3(self.data_dir.s3, s3_port, secrets.s3_secret_key),
            *workers(settings),
            parts.api(self.host, self.port, self.data_dir.metrics),
        ]
        self._runner = OwnRunner(programs, self.data_dir.root, self.data_dir.logs)
        self._runner.run(environment)
        self.data_dir.set_running(
            Running(pid=os.getpid(), url=self.url, redis_url=redis_url, runner_url=self._runner.url)
        )

    def wait_ready(self, timeout_s: float | None = None) -> None:
        """Return when the farm takes and renders jobs, and the data directory holds a key for it.

        Raises FarmError, with the log of the process that is to blame, when one cannot start.
        """
        started = told = time.monotonic()
        key_made = False
        with httpx.Client(base_url=self.url, timeout=5.0, trust_env=False) as http:
            while True:
                self._check_processes()
                key_made = key_made or self._try_make_key()
                reason = _why_not_ready(http)
                if key_made and reason is None:
                    return
                waited = time.monotonic() - started
                if timeout_s is not None and waited > timeout_s:
                    raise FarmError(f"The farm is not ready after {waited:.0f} s: {reason}. See {self.data_dir.logs}.")
                if time.monotonic() - told > 15:
                    self._tell(f"not ready yet: {reason}")
                    told = time.monotonic()
                time.sleep(_POLL_S)

    def watch(self) -> None:
        """Keep an eye on the processes for as long as the farm runs, and tell what happens to them."""
        while True:
            self._check_processes(ready=True)
            time.sleep(1)

    def stop(self) -> None:
        """Stop the API and the workers, then what they need.

        What is not finished is finished by the next farm in this directory.
        """
        if self._runner is not None:
            self._runner.stop(self._tell)
            self._runner = None
            self.data_dir.set_running(None)
        self.data_dir.unlock()

    def environment(self, own: Mapping[str, str]) -> dict[str, str]:
        """The environment of every process: the user's, with the addresses and keys of this farm's own parts."""
        inherited = {name: value for name, value in os.environ.items() if name not in CLIENT_VARIABLES}
        defaults = {
            "PUBLIC_URL": self.url,
            "READY_WORKERS": "1",
            "DRAIN_S": str(DRAIN_S),
            # Receivers of webhooks on this very machine are what one tries a farm with.
            "EGRESS_ALLOW": "127.0.0.0/8,::1/128",
        }
        if f"{PREFIX}MODELS_DIR" not in inherited:
            defaults |= {"MODELS_DIR": str(self.data_dir.models), "MODELS_OFFLINE": "1"}
        return {
            **{PREFIX + name: value for name, value in defaults.items()},
            **inherited,
            **{PREFIX + name: value for name, value in own.items()},
        }

    def _end_former_farm(self) -> None:
        """Wait for the processes of a farm that was killed here: two Valkeys must not write to the same files."""
        former = self.data_dir.running()
        if former is None:
            return
        with suppress(OSError):
            # Where processes can be bound to each other there is nothing left to stop.
            Runner(former.runner_url).shut_down()
        deadline = time.monotonic() + FORMER_FARM_S
        while _answers(former.redis_url):
            if time.monotonic() > deadline:
                raise FarmError(
                    f"A Valkey of a farm that was killed still runs on {self.data_dir.valkey}. Stop it, then try again."
                )
            time.sleep(_POLL_S)
        self.data_dir.set_running(None)

    def _check_port(self) -> None:
        # The front door of a farm that was killed a moment ago may still be closing.
        deadline = time.monotonic() + 3
        while True:
            with socket.socket(parts.address_family(self.host)) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((self.host, self.port))
                    return
                except OSError as error:
                    if time.monotonic() > deadline:
                        reason = error.strerror or str(error)
                        raise FarmError(
                            f"Port {self.port} of {self.host} cannot be used: {reason}. Give another --port."
                        ) from error
            time.sleep(_POLL_S)

    def _check_processes(self, *, ready: bool = False) -> None:
        """Raise FarmError for what cannot be mended; tell of, and mend, what can."""
        runner = self._runner
        if runner is None or not runner.alive:
            tail = runner.log_tail("supervisord-output") if runner else ""
            raise FarmError(f"supervisord, which runs the processes, has ended.\n{tail}")
        try:
            processes = runner.processes()
        except OSError:
            return  # it is starting, or ending; `alive` tells which
        for process in processes:
            before = self._processes.get(process.name)
            self._processes[process.name] = process
            if before and before.started_at and before.started_at != process.started_at:
                self._restarts[process.name] += 1
                self._tell(f"{process.name} had ended and was started again; see {runner.log(process.name)}")
            if not ready and (process.given_up or self._restarts[process.name] > START_RETRIES):
                tail = runner.log_tail(process.name)
                raise FarmError(f"{process.name} cannot start. Its log, {runner.log(process.name)}, ends:\n{tail}")
            if process.given_up:
                runner.start(process.name)

    def _try_make_key(self) -> bool:
        running = self.data_dir.running()
        assert running is not None
        file = self.data_dir.api_key_file
        try:
            with _connect(running.redis_url) as redis:
                accounts = Accounts(redis)
                if not file.exists() or accounts.account_of(file.read_text(encoding="utf-8").strip()) is None:
                    # Without a newline: it goes into a header as it is.
                    write_private(file, accounts.create_key(ACCOUNT))
        except RedisError:
            return False
        return True


def _read(environment: Mapping[str, str]) -> Settings:
    """The settings in `environment`. Raises FarmError for what no process could start with."""
    try:
        settings = read_settings(environment)
    except ValueError as error:
        raise FarmError(f"A setting is wrong: {error}") from error
    if not Path(settings.models_dir).is_dir() and f"{PREFIX}MODELS_DIR" in os.environ:
        raise FarmError(
            f"{PREFIX}MODELS_DIR={settings.models_dir} is not a folder. Give the folder that holds your checkpoints, "
            "an empty one to fetch them from the model hub, or unset it for tiny stand-ins."
        )
    return settings


def _needs_weights(settings: Settings) -> bool:
    """Whether any model is more than synthetic. Raises FarmError for a catalog that no process could start with."""
    try:
        catalog = load_catalog(settings.catalog_path)
    except (OSError, ValueError) as error:
        raise FarmError(f"The catalog {settings.catalog_path} cannot be used: {error}") from error
    return any(model.family != SYNTHETIC for model in catalog.models.values())


def workers(settings: Settings) -> list[parts.Program]:
    """The render worker and the upkeep worker, whose metrics are at the port after the other's."""
    port = settings.worker_metrics_port
    return [
        parts.worker("upkeep", UPKEEP_STOP_S, "upkeep ends the webhooks under way", port + 1 if port else 0),
        parts.worker(
            "render",
            math.ceil(settings.drain_s) + RENDER_STOP_MARGIN_S,
            "the render worker finishes its batch, or gives it back",
            port,
        ),
    ]


def _why_not_ready(http: httpx.Client) -> str | None:
    """What the farm still waits for; None when it is ready."""
    try:
        answer = http.get("/readyz")
    except httpx.TransportError:
        return "the API does not answer"
    if answer.status_code == httpx.codes.OK:
        return None
    return api_error(answer).detail


def _answers(redis_url: str) -> bool:
    try:
        with _connect(redis_url) as redis:
            return bool(redis.ping())
    except RedisError:
        return False


def _connect(redis_url: str) -> Redis:
    """A client that tries once: whoever uses it here asks again anyway."""
    return Redis.from_url(redis_url, decode_responses=True, socket_timeout=5, retry=None)

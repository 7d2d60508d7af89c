"""The data directory: everything that an embedded farm keeps, and what it leaves for others to read.

lock              held while a farm runs here
farm.json         the running farm: its addresses and keys (0600)
secrets.json      made once: the keys between the farm's own parts (0600)
api-key           a key for the API, of the account `default` (0600)
valkey/ s3/       the data                models/      tiny checkpoints
logs/             a file for each process metrics/     counters shared by the API's processes
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from farm.errors import FarmError

#: Long enough that nobody guesses it: 256 bits.
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """What the parts of one farm prove themselves with."""

    valkey_password: str
    s3_secret_key: str
    secret_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A running farm, as `farm.json` describes it."""

    pid: int
    url: str
    redis_url: str
    #: Address of the process runner, its password included.
    runner_url: str


class DataDir:
    """One embedded farm's directory."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.valkey = self.root / "valkey"
        self.s3 = self.root / "s3"
        self.models = self.root / "models"
        self.logs = self.root / "logs"
        self.metrics = self.root / "metrics"
        self.api_key_file = self.root / "api-key"
        self._farm_file = self.root / "farm.json"
        self._lock_fd: int | None = None

    def lock(self) -> None:
        """Make the directory, and take it for this process. Raises FarmError where another farm runs in it."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.logs.mkdir(exist_ok=True)
            fd = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FarmError(f"The data directory {self.root} cannot be used: {error.strerror}.") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            running = self.running()
            where = f" (process {running.pid}, {running.url})" if running else ""
            raise FarmError(
                f"A farm runs in {self.root} already{where}. Stop it, or give another --data-dir and --port."
            ) from error
        self._lock_fd = fd

    def unlock(self) -> None:
        """Let another farm have the directory."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def secrets(self) -> Secrets:
        """The farm's secrets, made at the first call and kept."""
        path = self.root / "secrets.json"
        if not path.exists():
            made = Secrets(**{f.name: secrets.token_urlsafe(SECRET_BYTES) for f in fields(Secrets)})
            write_private(path, json.dumps(asdict(made), indent=2) + "\n")
        return Secrets(**_read_json(path))

    def running(self) -> Running | None:
        """The farm that runs here, or the one that was killed here and could not say goodbye."""
        return Running(**_read_json(self._farm_file)) if self._farm_file.exists() else None

    def set_running(self, running: Running | None) -> None:
        """Tell others of the farm that runs here, or that none does."""
        if running is None:
            self._farm_file.unlink(missing_ok=True)
        else:
            write_private(self._farm_file, json.dumps(asdict(running), indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path` whole or not at all, readable by its owner alone."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FarmError(f"{path} cannot be read: {error}. Restore it, or start with a new --data-dir.") from error
    return content

"""Run programs and keep them running: supervisord, with a configuration made for one run.

supervisord starts everything at once, restarts what dies, and turns the logs over. Of its own accord it would stop the
programs one after another; so it is told to stop at once all that do not serve others, and itself when these have
ended. It is itself bound to this process, and the programs to it: when this process is killed, all go.
"""

from __future__ import annotations

import secrets
import shlex
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterable, Mapping, Sequence
from configparser import RawConfigParser
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from farm.datadir import write_private
from farm.parts import LOOPBACK, Program, free_port

#: A program that dies sooner has failed to start: more than it takes a worker to import torch and find a mistake.
START_SECONDS = 10
#: Tries, each a second further apart than the last, before a program counts as unable to start.
START_RETRIES = 3
#: A stop that takes longer is told of, in seconds.
QUICK_STOP_S = 1.0
_POLL_S = 0.1
LOG_BYTES = 10 * 2**20
LOG_BACKUPS = 2
USER = "rendermill"


@dataclass(frozen=True, slots=True)
class Process:
    """A program's present process."""

    name: str
    #: 0 while it does not run.
    pid: int
    #: Unix time of its latest start.
    started_at: int
    #: It failed to start several times over and is not tried again.
    given_up: bool


class Runner:
    """A running supervisord, at its address."""

    def __init__(self, url: str) -> None:
        self.url = url

    def processes(self) -> list[Process]:
        """All programs in the order of their names. Raises OSError where supervisord does not answer."""
        return [
            Process(info["name"], info["pid"], info["start"], info["statename"] == "FATAL")
            for info in self._call("getAllProcessInfo")
        ]

    def start(self, name: str) -> None:
        """Try again to start a program that was given up."""
        self._call("startProcess", name, False)

    def begin_stop(self, name: str) -> None:
        """Ask a program to end, and do not wait for it; nothing is said of one that does not run."""
        with suppress(OSError):
            self._call("stopProcess", name, False)

    def shut_down(self) -> None:
        """Ask supervisord to stop everything and itself. Raises OSError where it does not answer."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            with xmlrpc.client.ServerProxy(self.url) as server:
                return getattr(server.supervisor, method)(*arguments)
        except xmlrpc.client.Error as error:
            # It answers with a fault while it shuts down, and another program at its old address with an HTTP error.
            raise ConnectionError(str(error)) from error


class OwnRunner(Runner):
    """A supervisord of our own, from its start to its end."""

    def __init__(self, programs: Sequence[Program], directory: Path, logs: Path) -> None:
        """Prepare to run `programs`, the ones that others need first; the configuration goes to `directory`."""
        self._programs = programs
        self._logs = logs
        self._config = directory / "supervisord.conf"
        self._process: subprocess.Popen[bytes] | None = None
        password = secrets.token_urlsafe()
        port = free_port()
        super().__init__(f"http://{USER}:{password}@{LOOPBACK}:{port}/RPC2")
        write_private(self._config, configuration(programs, directory, logs, port, password))

    def run(self, environment: Mapping[str, str]) -> None:
        """Start supervisord, and through it every program."""
        supervisord = Program(
            name="supervisord",
            command=(sys.executable, "-m", "supervisor.supervisord", "--configuration", str(self._config)),
        )
        with self.log("supervisord-output").open("wb") as output:
            self._process = subprocess.Popen(
                supervisord.bound_command,
                # supervisord strips quotes from the values in its configuration; here they pass untouched.
                env={**environment, **{k: v for program in self._programs for k, v in program.environment.items()}},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A terminal's Ctrl-C is for this process, which then stops the programs in their order.
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, tell: Callable[[str], None]) -> None:
        """Stop all programs, then supervisord; kill what is left when that takes too long.

        `tell` hears what is waited for.
        """
        if self._process is None:
            return
        last_s = sum(program.stop_wait_s for program in self._programs if program.stops_last)
        try:
            self._stop_together([program for program in self._programs if not program.stops_last], tell)
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=last_s + START_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()

    def _stop_together(self, programs: Sequence[Program], tell: Callable[[str], None]) -> None:
        for program in programs:
            self.begin_stop(program.name)
        waiting = {program.name: program for program in programs}
        started = time.monotonic()
        # supervisord kills what takes longer than its own time.
        deadline = started + max((program.stop_wait_s for program in programs), default=0) + START_SECONDS
        told = False
        with suppress(OSError):
            while self.alive and time.monotonic() < deadline:
                waiting = {p.name: waiting[p.name] for p in self.processes() if p.pid and p.name in waiting}
                if not waiting:
                    return
                if not told and time.monotonic() - started > QUICK_STOP_S:
                    told = True
                    for program in waiting.values():
                        tell(f"stopping: {program.while_stopping} (at most {program.stop_wait_s} s)")
                time.sleep(_POLL_S)

    def log(self, name: str) -> Path:
        """The log of the program `name`."""
        return self._logs / f"{name}.log"

    def log_tail(self, name: str, lines: int = 15) -> str:
        """The last lines that the program `name` wrote."""
        path = self.log(name)
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def configuration(programs: Iterable[Program], directory: Path, logs: Path, port: int, password: str) -> str:
    """The text of a supervisord.conf."""
    config = RawConfigParser()
    config["supervisord"] = {
        "nodaemon": "true",
        "silent": "true",
        "logfile": _literal(logs / "supervisord.log"),
        "pidfile": _literal(directory / "supervisord.pid"),
        "logfile_maxbytes": str(LOG_BYTES),
        "logfile_backups": str(LOG_BACKUPS),
    }
    config["inet_http_server"] = {"port": f"{LOOPBACK}:{port}", "username": USER, "password": password}
    config["rpcinterface:supervisor"] = {
        "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
    }
    for order, program in enumerate(programs):
        config[f"program:{program.name}"] = {
            "command": _literal(shlex.join(program.bound_command)),
            "priority": str(order),
            "autorestart": "true",
            "startsecs": str(START_SECONDS),
            "startretries": str(START_RETRIES),
            "stopwaitsecs": str(program.stop_wait_s),
            "killasgroup": "true",
            "redirect_stderr": "true",
            # Expanded twice by supervisord.
            "stdout_logfile": _literal(_literal(logs / f"{program.name}.log")),
            "stdout_logfile_maxbytes": str(LOG_BYTES),
            "stdout_logfile_backups": str(LOG_BACKUPS),
        }
    text = StringIO()
    config.write(text)
    return text.getvalue()


def _literal(value: object) -> str:
    """`value` so that supervisord expands nothing in it."""
    return str(value).replace("%", "%%")

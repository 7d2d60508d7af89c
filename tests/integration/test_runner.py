"""The process runner: what dies is started again, what cannot start is given up, and nothing outlives its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from farm import runner
from farm.parts import Program
from farm.runner import OwnRunner, Process
from tests.servers import PATIENCE_S, wait_until

#: Appends what happens to it, with its name, to a file.
RECORDER = """
import os, signal, sys, time
def note(word):
    with open(sys.argv[2], "a") as file:
        file.write(f"{word} {sys.argv[1]}\\n")
def stop(*_):
    note("stop")
    time.sleep(float(sys.argv[3]))
    note("end")
    sys.exit()
signal.signal(signal.SIGTERM, stop)
note("start")
time.sleep(60)
"""


def _recorder(name: str, notes: Path, stop_s: float = 0, **more: Any) -> Program:
    script = notes.with_name("recorder.py")
    script.write_text(RECORDER)
    return Program(name=name, command=(sys.executable, str(script), name, str(notes), str(stop_s)), **more)


@contextmanager
def _running(
    programs: list[Program], directory: Path, tell: Callable[[str], None] = lambda _: None
) -> Iterator[OwnRunner]:
    owner = OwnRunner(programs, directory, directory)
    owner.run(os.environ)
    try:
        yield owner
    finally:
        owner.stop(tell)


def _processes(owner: OwnRunner) -> dict[str, Process]:
    try:
        return {process.name: process for process in owner.processes()}
    except OSError:
        return {}


def _pid(owner: OwnRunner, name: str) -> int:
    process = _processes(owner).get(name)
    return process.pid if process else 0


def test_a_killed_program_is_started_again(tmp_path: Path) -> None:
    with _running([_recorder("one", tmp_path / "notes")], tmp_path) as owner:
        wait_until(lambda: _pid(owner, "one"), "it runs")
        first = _pid(owner, "one")
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: _pid(owner, "one") not in (0, first), "it runs again")


def test_programs_stop_all_at_once_and_those_that_serve_them_after_their_end(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    programs = [
        _recorder("store", notes, stops_last=True),
        _recorder("worker", notes, stop_s=2, stop_wait_s=9, while_stopping="the worker ends its work"),
        _recorder("door", notes),
    ]
    told: list[str] = []
    with _running(programs, tmp_path, told.append):
        wait_until(lambda: notes.exists() and notes.read_text().count("start") == 3, "all run")
    words = notes.read_text().splitlines()[3:]
    assert set(words[:3]) == {"stop worker", "stop door", "end door"}
    assert words[3:] == ["end worker", "stop store", "end store"]
    assert told == ["stopping: the worker ends its work (at most 9 s)"]


def test_a_program_that_does_not_stop_is_killed_after_its_time(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with _running([_recorder("stuck", notes, stop_s=60, stop_wait_s=1)], tmp_path):
        wait_until(notes.exists, "it runs")
    assert notes.read_text().splitlines() == ["start stuck", "stop stuck"], "its end was not waited for"


def test_a_program_that_cannot_start_is_given_up_and_its_log_tells_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "START_RETRIES", 1)
    broken = Program(name="broken", command=(sys.executable, "-c", "raise SystemExit('no such model')"))
    with _running([broken], tmp_path) as owner:
        wait_until(lambda: "broken" in (known := _processes(owner)) and known["broken"].given_up, "it is given up")
        assert "no such model" in owner.log_tail("broken")


def test_settings_reach_the_programs_untouched(tmp_path: Path) -> None:
    value = "\"quoted\", 100% 'and' ; more"
    code = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(os.environ['VALUE'])"
    place = tmp_path / "a folder of 100%"
    place.mkdir()
    command = (sys.executable, "-c", code, str(place / "value"))
    with _running([Program(name="one", command=command, environment={"VALUE": value})], place):
        wait_until(lambda: (place / "value").exists() and (place / "value").read_text(), "it has run")
    assert (place / "value").read_text() == value


def test_a_killed_owner_leaves_no_process(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from farm.runner import OwnRunner\n"
        "from tests.integration.test_runner import _recorder\n"
        "directory = Path(sys.argv[1])\n"
        "owner = OwnRunner([_recorder('one', directory / 'notes')], directory, directory)\n"
        "owner.run(os.environ); time.sleep(60)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    wait_until(lambda: (tmp_path / "notes").exists(), "it runs")
    family = psutil.Process(owner.pid).children(recursive=True)
    assert len(family) == 2  # supervisord and the program
    owner.kill()
    owner.wait()
    gone, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
    assert len(gone) == 2, alive

"""farm.bound: a command dies with whoever started it."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from farm.bound import PARENT
from tests.servers import PATIENCE_S, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
#: Starts the command line it is given, passes on the first line it prints with its process id, and waits.
PARENT_CODE = """
import subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


def _start_parent_of(command: list[str]) -> tuple[subprocess.Popen[str], int]:
    parent = subprocess.Popen([sys.executable, "-c", PARENT_CODE, *command], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        return parent, int(parent.stdout.readline())


def _is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_bound_command_is_killed_when_its_parent_is_killed() -> None:
    parent, child = _start_parent_of([sys.executable, "-m", "farm.bound", "SIGKILL", *SLEEP])
    parent.kill()
    parent.wait()
    wait_until(lambda: _is_gone(child), "the child dies")


def test_a_command_that_is_not_bound_outlives_its_parent() -> None:
    parent, child = _start_parent_of(SLEEP)
    parent.kill()
    parent.wait()
    assert not _is_gone(child)
    os.kill(child, 9)


def test_death_goes_down_a_chain_of_bound_commands() -> None:
    bound = [sys.executable, "-m", "farm.bound", "SIGKILL"]
    parent, middle = _start_parent_of([*bound, sys.executable, "-c", PARENT_CODE, *bound, *SLEEP])
    (child,) = psutil.Process(middle).children()
    parent.kill()
    parent.wait()
    wait_until(lambda: _is_gone(middle) and _is_gone(child.pid), "both die")


def test_a_command_whose_parent_died_before_it_was_bound_does_not_start() -> None:
    another = {**os.environ, PARENT: "1"}
    command = [sys.executable, "-m", "farm.bound", "SIGKILL", *SLEEP]
    run = subprocess.run(command, env=another, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert run.returncode != 0
    assert "is gone" in run.stderr
    assert "up" not in run.stdout

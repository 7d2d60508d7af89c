"""The heartbeat never stops by itself, and the watchdog bites only what is stuck."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.servers import wait_until
from worker import heartbeat
from worker.heartbeat import EXIT_STUCK, STALE_S, Heartbeat, Watchdog, is_alive, tick_file


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Guarded:
    """A worker under a watchdog with a patience of ten seconds, looked at every two."""

    def __init__(self, clock: Clock) -> None:
        self.exits: list[int] = []
        self._clock = clock
        self._watchdog = Watchdog(10, self.exits.append)

    def live(
        self, seconds: int, *, idle: bool = True, tickets: int = 0, work_waits: bool = True, silent_s: float = 0
    ) -> None:
        for _ in range(seconds // 2):
            self._watchdog.look(idle=idle, tickets_taken=tickets, work_waits=work_waits, device_silent_s=silent_s)
            self._clock.now += 2

    def stand_still(self, seconds: int) -> None:
        """The whole machine does: nobody looks, and nobody works."""
        self._clock.now += seconds


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Guarded:
    clock = Clock()
    monkeypatch.setattr(heartbeat, "time", clock)
    return Guarded(clock)


def test_a_worker_that_takes_no_ticket_while_work_waits_exits(guarded: Guarded) -> None:
    guarded.live(10)
    assert not guarded.exits
    guarded.live(6)
    assert guarded.exits[0] == EXIT_STUCK


def test_a_worker_without_work_may_be_idle(guarded: Guarded) -> None:
    guarded.live(60, work_waits=False)
    assert not guarded.exits


def test_a_busy_worker_may_leave_other_work_waiting(guarded: Guarded) -> None:
    guarded.live(60, idle=False)
    assert not guarded.exits


def test_a_worker_that_was_busy_between_two_looks_is_not_idle(guarded: Guarded) -> None:
    for tickets in range(30):
        guarded.live(2, tickets=tickets)
    assert not guarded.exits


def test_a_machine_that_stands_still_is_no_reason_to_exit(guarded: Guarded) -> None:
    guarded.live(2)
    for _ in range(3):
        guarded.stand_still(60)
        guarded.live(2)
    assert not guarded.exits
    guarded.live(60, tickets=1)
    assert guarded.exits[0] == EXIT_STUCK, "it is counted again from then on"


def test_a_worker_whose_device_hangs_exits(guarded: Guarded) -> None:
    guarded.live(20, idle=False, silent_s=1800)
    assert not guarded.exits
    guarded.live(2, idle=False, silent_s=3601)
    assert guarded.exits == [EXIT_STUCK]


@pytest.fixture
def tick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tick_file()


@pytest.mark.parametrize("error", [RedisConnectionError("away"), RuntimeError("bug")])
def test_a_beat_that_fails_does_not_end_the_heartbeat(
    tick: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(heartbeat, "HEARTBEAT_S", 0.01)
    beats: list[int] = []

    def beat() -> None:
        beats.append(1)
        raise error

    heart = Heartbeat(beat)
    heart.start()
    wait_until(lambda: len(beats) > 2, "it beats on")
    heart.stop()
    assert is_alive()
    counted = len(beats)
    assert tick.exists()
    assert len(beats) == counted


def test_a_worker_that_never_beat_or_stopped_beating_is_not_alive(tick: Path) -> None:
    assert not is_alive()
    tick.touch()
    assert is_alive()
    long_ago = tick.stat().st_mtime - STALE_S
    os.utime(tick, (long_ago, long_ago))
    assert not is_alive()

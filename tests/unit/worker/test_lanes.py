"""A slow receiver may hold some of the senders, never all."""

from __future__ import annotations

from contextlib import ExitStack, suppress

import pytest

from worker import lanes
from worker.lanes import Lanes


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lanes, "time", clock)
    return clock


def send(lanes: Lanes, account: str, clock: Clock, seconds: float) -> bool:
    with lanes.place(account) as free:
        if free:
            clock.now += seconds
        return free


def test_a_quick_account_has_every_place(clock: Clock) -> None:
    lanes = Lanes(1)
    assert send(lanes, "alice", clock, 0.1)
    with ExitStack() as stack:
        assert all(stack.enter_context(lanes.place("alice")) for _ in range(16))


def test_slow_accounts_share_their_places_and_leave_the_others_alone(clock: Clock) -> None:
    lanes = Lanes(2)
    for account in ("mallory", "trudy", "oscar"):
        send(lanes, account, clock, 15)
    with lanes.place("mallory") as first, lanes.place("trudy") as second, lanes.place("oscar") as third:
        assert (first, second, third) == (True, True, False)
        with lanes.place("alice") as quick:
            assert quick
    with lanes.place("oscar") as free:
        assert free


def test_a_place_is_given_back_though_sending_fails(clock: Clock) -> None:
    lanes = Lanes(1)
    send(lanes, "mallory", clock, 15)
    for _ in range(3):
        with suppress(OSError), lanes.place("mallory") as free:
            assert free
            raise OSError("no way")


def test_slowness_is_remembered_over_quick_answers_and_forgotten_after_a_while(clock: Clock) -> None:
    lanes = Lanes(0)
    send(lanes, "alice", clock, 15)
    assert not send(lanes, "alice", clock, 0)
    clock.now += 61
    assert send(lanes, "alice", clock, 0.1)

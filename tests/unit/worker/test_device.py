"""The device has one batch at a time, and the next one is prepared shortly before it is free."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.servers import PATIENCE_S
from worker.device import Device


class Time:
    """Stands for `time`, and for the device's condition: whoever waits lets time pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr("worker.device.time", time)
    return time


@pytest.fixture
def device(time: Time, monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Device()

    def wait(seconds: float | None) -> None:
        assert seconds is not None, "nobody would ever wake it"
        time.now += seconds

    monkeypatch.setattr(device._changed, "wait", wait)
    return device


def render(device: Device, time: Time, seconds: float, kind: object = "a lane", *, as_usual: bool = True) -> None:
    device.take(kind)
    time.now += seconds
    device.leave(as_usual=as_usual)


def waited(device: Device, time: Time, kind: object = "a lane") -> float:
    """How long after a batch was begun the next one is prepared."""
    device.take(kind)
    begun = time.now
    device.wait_until_nearly_free()
    return time.now - begun


def test_a_batch_is_prepared_when_the_one_before_has_as_much_time_left_as_that_takes(
    device: Device, time: Time
) -> None:
    device.prepared(0.3)
    render(device, time, 2.0)
    assert waited(device, time) == pytest.approx(1.7, abs=0.01)


def test_a_preparation_that_took_long_is_forgotten_by_and_by(device: Device, time: Time) -> None:
    device.prepared(1.0)
    for _ in range(50):
        device.prepared(0.1)
    render(device, time, 2.0)
    assert waited(device, time) == pytest.approx(1.9, abs=0.01)


def test_no_batch_is_prepared_before_half_of_the_one_before_is_over(device: Device, time: Time) -> None:
    device.prepared(60.0)
    render(device, time, 2.0)
    assert waited(device, time) == pytest.approx(1.0)


def test_the_last_duration_of_a_kind_counts(device: Device, time: Time) -> None:
    render(device, time, 9.0)
    render(device, time, 2.0)
    render(device, time, 1.0, "another lane")
    assert waited(device, time) == pytest.approx(2.0, abs=0.01)


def test_what_is_left_early_says_nothing_of_the_next_one(device: Device, time: Time) -> None:
    render(device, time, 2.0)
    render(device, time, 0.1, as_usual=False)
    assert waited(device, time) == pytest.approx(2.0, abs=0.01)


def test_only_so_many_kinds_are_remembered(device: Device, time: Time) -> None:
    for number in range(1001):
        render(device, time, 1.0, number)
    assert waited(device, time, 1) < 1.0
    device.leave(as_usual=True)
    device.take(0)
    with pytest.raises(AssertionError, match="nobody would ever wake it"):
        device.wait_until_nearly_free()


def test_the_time_between_two_batches_is_told(device: Device, time: Time) -> None:
    render(device, time, 2.0)
    time.now += 0.25
    assert device.take(None) == pytest.approx(0.25)
    assert device.busy


def returns(call: Callable[[], object]) -> threading.Event:
    """Set once the call, made on another thread, has returned."""
    returned = threading.Event()

    def run() -> None:
        call()
        returned.set()

    threading.Thread(target=run, daemon=True).start()
    return returned


@pytest.mark.parametrize("kind", [None, "a lane that was never seen"])
def test_a_batch_after_one_that_takes_nobody_knows_how_long_is_prepared_when_that_is_over(kind: str | None) -> None:
    device = Device()
    device.take(kind)
    prepares = returns(device.wait_until_nearly_free)
    assert not prepares.wait(0.05)
    device.leave(as_usual=True)
    assert prepares.wait(PATIENCE_S)


def test_a_batch_waits_until_the_one_before_has_left_the_device() -> None:
    device = Device()
    device.take("a lane")
    taken = returns(lambda: device.take("a lane"))
    assert not taken.wait(0.05)
    device.leave(as_usual=True)
    assert taken.wait(PATIENCE_S)

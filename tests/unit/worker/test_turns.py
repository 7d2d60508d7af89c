"""Whose turn it is, on a device that has no room for all models, in a time of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scheduling import EFFORT
from tests.unit.worker.fakes import fake_model
from worker.engine import Rendered
from worker.turns import Turns

LOAD_S = 2.0
BATCH_S = 1.0


@dataclass
class Device:
    """A worker that always does what its turns tell it to do next."""

    models: tuple[str, ...]
    room: int
    longest_s: float = 1000.0
    load_s: float = LOAD_S
    now: float = 100.0
    resident: list[str] = field(default_factory=list)
    #: The models of the batches, and those that had to be loaded.
    batches: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        models = [fake_model(name) for name in self.models]
        self.turns = Turns(models, lambda: self.resident, self.longest_s, lambda: self.now)

    def render(self, waiting: Iterable[str]) -> str | None:
        """One batch of one of the models that have work; which one, or None where none has."""
        model = next((name for name in self.turns.limits() if name in waiting), None)
        if model is None:
            return None
        self.turns.begin(model)
        load_s = 0.0 if model in self.resident else self.load_s
        if load_s:
            self.loads.append(model)
            self.resident = [*self.resident, model][-self.room :]
        self.now += load_s + BATCH_S
        self.batches.append(model)
        self.turns.rendered(Rendered([], load_s, BATCH_S, interrupted=False))
        return model


def test_models_that_all_fit_are_rendered_in_turn() -> None:
    device = Device(("a", "b", "c"), room=3)
    for _ in range(6):
        device.render("abc")
    assert device.batches == list("abcabc")
    assert device.loads == list("abc")


def test_a_model_that_made_another_give_way_goes_first_until_its_load_is_repaid() -> None:
    device = Device(("a", "b"), room=1)
    for _ in range(62):
        device.render("ab")
    # Nothing gave way for the first one. Ten times two seconds are twenty batches of one.
    assert "".join(device.batches) == "a" + "b" * 20 + "a" * 20 + "b" * 20 + "a"


def test_no_turn_lasts_longer_than_the_setting_says() -> None:
    device = Device(("a", "b"), room=1, longest_s=3.0)
    for _ in range(10):
        device.render("ab")
    assert device.batches == list("abbbaaabbb")


def test_without_affinity_models_are_rendered_in_turn_and_loaded_each_time() -> None:
    device = Device(("a", "b"), room=1, longest_s=0.0)
    for _ in range(4):
        device.render("ab")
    assert device.batches == device.loads == list("abab")


def test_a_model_without_work_keeps_nobody_waiting() -> None:
    device = Device(("a", "b"), room=1)
    assert [device.render(waiting) for waiting in ("a", "ab", "a", "b", "")] == ["a", "b", "a", "b", None]


def test_work_that_comes_when_no_turn_is_going_on_is_next() -> None:
    device = Device(("a", "b"), room=1)
    for _ in range(5):
        device.render("a")
    assert device.render("ab") == "b"


def test_models_on_the_device_share_it_while_a_third_one_waits() -> None:
    device = Device(("a", "b", "c"), room=2)
    for _ in range(23):
        device.render("abc")
    # Nothing gave way for the first two.
    assert "".join(device.batches) == "ab" + "c" + "bcbcbcbcbcbcbcbcbcb" + "a"
    assert device.loads == list("abca")


@given(
    count=st.integers(2, 5),
    room=st.integers(1, 4),
    longest_s=st.sampled_from([0.0, 1.0, 7.0, 30.0]),
    load_s=st.sampled_from([0.1, 1.0, 4.0]),
    # How many batches of which model come, and how many are rendered before.
    arrivals=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 40), st.integers(0, 30)), min_size=4, max_size=30),
)
@settings(max_examples=200 * EFFORT, deadline=None, derandomize=EFFORT == 1)
def test_no_model_waits_longer_than_a_turn_of_each_other(
    count: int, room: int, longest_s: float, load_s: float, arrivals: list[tuple[int, int, int]]
) -> None:
    names = tuple("abcde"[:count])
    device = Device(names, room, longest_s, load_s)
    waiting: dict[str, int] = {}
    since: dict[str, float] = {}
    bound_s = (count - 1) * (load_s + min(longest_s, 10 * load_s) + BATCH_S)

    def render() -> None:
        began = device.now
        served = device.render(waiting)
        if served is None:
            return
        for name in waiting:
            assert (began if name == served else device.now) - since[name] <= bound_s + 1e-6
        waiting[served] -= 1
        since[served] = device.now
        if not waiting[served]:
            del waiting[served]

    for which, batches, rendered_before in arrivals:
        for _ in range(rendered_before):
            render()
        name = names[which % count]
        if name not in waiting:
            since[name] = device.now
        waiting[name] = waiting.get(name, 0) + batches
    while waiting:
        render()

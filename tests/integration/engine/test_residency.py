"""Models that share a device too small for all of them, and the host memory that those which gave way move to."""

from __future__ import annotations

import gc
import shutil
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prometheus_client import REGISTRY
from torch import nn

from shared.errors import JobFailure
from shared.settings import Settings
from tests.integration.engine.rendering import BASE, CATALOG, FILL, LIGHTNING, SCHNELL, picture, request
from worker.engine import Engine
from worker.engine.checkpoints import Loader
from worker.engine.residency import Residency
from worker.engine.weights import Weights

CPU = torch.device("cpu")
PLENTY = 1e9


class Room:
    """Budgets that hold the given models' weights, or some bytes of them."""

    def __init__(self, models_dir: Path) -> None:
        self._models_dir = models_dir
        self._loader = Loader(self._settings(), CPU)

    def _settings(self, **budgets: float) -> Settings:
        return Settings(models_dir=str(self._models_dir), models_offline=True, **budgets)

    def of(self, *models: str) -> float:
        """What these take, and a little for what is not in their files: tables of positions."""
        return sum(self._loader.weights_bytes(CATALOG.models[model], ()) + 10_000 for model in models)

    def engine(self, device: float, host: float = PLENTY) -> Engine:
        return Engine(CATALOG, self._settings(device_weights=device, host_weights=host), device="cpu")

    def residency(self, device: float, host: float = PLENTY) -> Residency:
        return Residency(Loader(self._settings(device_weights=device, host_weights=host), CPU))


@pytest.fixture
def room(tiny_models: Path) -> Room:
    return Room(tiny_models)


def value(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, labels) or 0.0


def loads(model: str, source: str) -> float:
    return value("rendermill_model_load_seconds_count", model=model, source=source)


def evictions(model: str, to: str) -> float:
    return value("rendermill_model_evictions_total", model=model, to=to)


def get(residency: Residency, *models: str) -> None:
    for model in models:
        residency.get(CATALOG.models[model])


def test_a_model_that_gave_way_comes_back_by_a_copy_and_makes_the_same_pictures(room: Room) -> None:
    engine = room.engine(device=max(room.of(BASE), room.of(SCHNELL)))
    asked = {model: request(model, num_steps=1) for model in (BASE, SCHNELL)}
    first = {model: picture(engine, asked[model]) for model in asked}
    assert engine.resident == [SCHNELL]
    before = loads(BASE, "host"), loads(BASE, "disk"), evictions(SCHNELL, "host")
    for _ in range(2):
        for model in asked:
            assert np.array_equal(picture(engine, asked[model]), first[model])
            assert engine.resident == [model]
    assert (loads(BASE, "host"), loads(BASE, "disk"), evictions(SCHNELL, "host")) == (
        before[0] + 2,
        before[1],
        before[2] + 2,
    )


def test_adapters_move_with_their_model(room: Room) -> None:
    engine = room.engine(device=max(room.of(BASE), room.of(SCHNELL)))
    asked = request(BASE, num_steps=1, loras=[{"id": "lcm-lora-sdxl"}])
    first = picture(engine, asked)
    engine.load(SCHNELL)
    assert engine.resident == [SCHNELL]
    assert np.array_equal(picture(engine, asked), first)


def test_within_the_budget_nobody_gives_way(room: Room) -> None:
    residency = room.residency(device=room.of(BASE, SCHNELL))
    get(residency, BASE, SCHNELL, BASE)
    assert residency.model_ids == [SCHNELL, BASE]
    assert residency.device_bytes == pytest.approx(room.of(BASE, SCHNELL), rel=0.01)
    assert residency.host_bytes == 0
    assert value("rendermill_weights_bytes", place="device") == residency.device_bytes


def test_what_a_model_on_the_device_shares_stays_there(room: Room) -> None:
    residency = room.residency(device=room.of(BASE))
    get(residency, BASE)
    base = residency.get(CATALOG.models[BASE])
    places = [tensor.data_ptr() for tensor in base.vae.parameters()]
    for model in (LIGHTNING, BASE, LIGHTNING):
        get(residency, model)
        assert residency.model_ids == [model]
        assert [tensor.data_ptr() for tensor in base.vae.parameters()] == places
    # All that lies on the host is the one UNet, packed.
    unet = Weights(base.unet, CPU)
    assert residency.host_bytes == unet.host_nbytes < 2 * unet.nbytes


def test_what_two_models_on_the_host_share_comes_back_with_either(room: Room) -> None:
    residency = room.residency(device=room.of(FILL))
    get(residency, SCHNELL, FILL, BASE)
    assert residency.model_ids == [BASE]
    get(residency, SCHNELL)
    assert residency.model_ids == [SCHNELL]
    get(residency, FILL)
    schnell, fill = (residency._held[model].pipeline for model in (SCHNELL, FILL))
    assert schnell.text_encoder_2 is fill.text_encoder_2
    assert residency.device_bytes == pytest.approx(room.of(FILL), rel=0.01)


def test_a_model_is_dropped_where_the_host_has_no_room_and_its_memory_is_free_before_the_next_is_loaded(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    residency = room.residency(device=room.of(SCHNELL), host=0)
    gone = weakref.ref(residency.get(CATALOG.models[BASE]).unet)
    original = Loader.pipeline

    def after_it_went(self: Loader, *arguments: Any) -> Any:
        assert gone() is None
        return original(self, *arguments)

    monkeypatch.setattr(Loader, "pipeline", after_it_went)
    dropped, read = evictions(BASE, "nowhere"), loads(BASE, "disk")
    get(residency, SCHNELL)
    assert residency.host_bytes == 0
    get(residency, BASE)
    assert (evictions(BASE, "nowhere"), loads(BASE, "disk")) == (dropped + 1, read + 1)


def test_the_host_keeps_those_used_last(room: Room) -> None:
    plenty = room.residency(device=PLENTY)
    get(plenty, BASE, SCHNELL)
    each = [sum(weights.host_nbytes for weights in plenty._held[model].weights) for model in (BASE, SCHNELL)]
    residency = room.residency(device=1000, host=max(each))
    get(residency, BASE, SCHNELL)
    assert list(residency._held) == [BASE, SCHNELL]
    get(residency, LIGHTNING)
    assert list(residency._held) == [SCHNELL, LIGHTNING]
    assert residency.model_ids == [LIGHTNING]


def test_a_model_that_exceeds_the_budget_alone_is_loaded_all_the_same(room: Room) -> None:
    residency = room.residency(device=1000)
    get(residency, BASE, SCHNELL)
    assert residency.model_ids == [SCHNELL]


def test_where_the_host_has_less_memory_than_its_budget_the_model_is_dropped(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Weights) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(Weights, "to_host", full)
    residency = room.residency(device=room.of(SCHNELL))
    get(residency, BASE, SCHNELL)
    assert list(residency._held) == [SCHNELL]
    assert residency.device_bytes == pytest.approx(room.of(SCHNELL), rel=0.01)


def test_where_a_copy_does_not_fit_another_model_gives_way(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    residency = room.residency(device=PLENTY)
    get(residency, BASE, SCHNELL)
    residency.make_room_for(CATALOG.models[SCHNELL])
    assert residency.model_ids == [SCHNELL]
    original = Weights.to_device

    def alone(self: Weights) -> None:
        if residency.model_ids:
            raise torch.OutOfMemoryError("CUDA out of memory")
        original(self)

    monkeypatch.setattr(Weights, "to_device", alone)
    get(residency, BASE)
    assert residency.model_ids == [BASE]


def test_for_a_broken_checkpoint_nobody_gives_way(tiny_models: Path, tmp_path: Path) -> None:
    for source in (BASE, SCHNELL):
        shutil.copytree(tiny_models / source, tmp_path / source)
    (tmp_path / SCHNELL / "transformer/diffusion_pytorch_model.safetensors").write_bytes(b"not weights at all")
    residency = Room(tmp_path).residency(device=1000)
    get(residency, BASE)
    with pytest.raises(JobFailure, match="SafetensorError") as failure:
        get(residency, SCHNELL)
    assert failure.value.code == "model_unavailable"
    assert residency.model_ids == [BASE]


def tensors() -> tuple[int, int]:
    """How many tensors there are, and the bytes of memory behind them."""
    gc.collect()
    # Not those of other types, which a compiler calculates with that was used in this process: they have no memory.
    alive = [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, nn.Parameter)]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in alive}
    return len(alive), sum(storages.values())


@pytest.mark.parametrize(
    ("host", "order", "rounds"),
    [(PLENTY, (BASE, LIGHTNING, SCHNELL), 12), (0, (LIGHTNING, SCHNELL), 2)],
    ids=["copied", "read again"],
)
def test_memory_stays_what_it_is_however_often_models_give_way_and_come_back(
    room: Room, host: float, order: tuple[str, ...], rounds: int
) -> None:
    residency = room.residency(device=room.of(BASE), host=host)
    get(residency, *order)
    get(residency, *order)
    bytes_held, alive = (residency.device_bytes, residency.host_bytes), tensors()
    for _ in range(rounds):
        get(residency, *order)
        assert (residency.device_bytes, residency.host_bytes) == bytes_held
    assert tensors() == alive

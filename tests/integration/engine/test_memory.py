"""When memory runs out, when the device breaks, and when numbers do."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import Decoder
from safetensors.torch import load_file, save_file

from shared.errors import JobFailure
from shared.settings import Settings
from tests.integration.engine.rendering import (
    BASE,
    CATALOG,
    LIGHTNING,
    SCHNELL,
    Steps,
    distance,
    item,
    picture,
    render,
    request,
)
from worker.engine import Engine
from worker.engine.checkpoints import Loader
from worker.engine.pictures import pictures_of

#: The engine's last act on a batch, where these tests let it fail.
PICTURES_OF = "worker.engine.engine.pictures_of"


@pytest.fixture
def engine(tiny_models: Path) -> Engine:
    """An engine of its own for each test: these leave marks."""
    return Engine(CATALOG, Settings(models_dir=str(tiny_models), models_offline=True), device="cpu")


def decode_at_most(images: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let memory run out at more than `images` at once; the sizes of the batches that were tried."""
    tried: list[int] = []

    def limited(tensor: torch.Tensor) -> Any:
        tried.append(len(tensor))
        if len(tensor) > images:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return pictures_of(tensor)

    monkeypatch.setattr(PICTURES_OF, limited)
    return tried


def test_a_batch_that_does_not_fit_is_decoded_one_by_one_then_halved_and_that_is_remembered(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [item(request(LIGHTNING), seed) for seed in range(5)]
    _, expected = render(engine, items)
    tried = decode_at_most(2, monkeypatch)
    _, pictures = render(engine, items)
    assert tried == [5, 5, 2, 2, 1]
    for one, other in zip(expected, pictures, strict=True):
        assert np.abs(one - other).max() <= 1
    tried.clear()
    steps = Steps()
    _, pictures = render(engine, items, steps)
    assert tried == [2, 2, 1]
    assert steps == [(step, 12) for step in range(1, 13)]
    assert np.abs(expected[4] - pictures[4]).max() <= 1
    interrupted, _ = render(engine, items, Steps(stop_at=6))
    assert interrupted.interrupted
    assert tried == [2, 2, 1, 2], "it stopped within the second batch"


def test_decoding_one_by_one_is_enough_where_only_decoding_does_not_fit(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [item(request(LIGHTNING), seed) for seed in range(3)]
    _, expected = render(engine, items)
    decoded: list[int] = []
    original = Decoder.forward

    def at_most_one(self: Decoder, sample: torch.Tensor, *args: Any) -> Any:
        decoded.append(len(sample))
        if len(sample) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, sample, *args)

    monkeypatch.setattr(Decoder, "forward", at_most_one)
    _, pictures = render(engine, items)
    assert decoded == [3, 1, 1, 1]
    for one, other in zip(expected, pictures, strict=True):
        assert np.abs(one - other).max() <= 1
    # Another lane of the same model begins anew.
    decoded.clear()
    render(engine, [item(request(LIGHTNING, width=320), seed) for seed in range(2)])
    assert decoded == [2, 1, 1]


def test_one_image_that_does_not_fit_alone_is_decoded_in_tiles_and_that_is_remembered(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.load(SCHNELL)
    large = request(BASE, width=768, height=256, num_steps=1)
    whole = picture(engine, large)
    decoded: list[tuple[int, ...]] = []
    original = Decoder.forward

    def at_most_a_tile(self: Decoder, sample: torch.Tensor, *args: Any) -> Any:
        decoded.append(tuple(sample.shape[2:]))
        if max(sample.shape[2:]) > 64:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, sample, *args)

    monkeypatch.setattr(Decoder, "forward", at_most_a_tile)
    tiled = picture(engine, large)
    # As ever, without earlier encodings, without the other model on the device, without it on the host, in tiles.
    assert decoded == [(32, 96)] * 4 + [(32, 64), (32, 48)]
    assert engine.resident == [BASE]
    assert tiled.shape == whole.shape
    assert distance(tiled, whole) < 3
    decoded.clear()
    assert np.array_equal(picture(engine, large), tiled)
    assert decoded == [(32, 64), (32, 48)]
    # Another lane is decoded as ever.
    decoded.clear()
    picture(engine, request(BASE, num_steps=1))
    assert decoded == [(32, 32)]


def test_one_image_that_does_not_fit_is_out_of_memory_and_the_engine_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        decode_at_most(0, full)
        with pytest.raises(JobFailure) as failure:
            render(engine, [item(request(LIGHTNING))])
    assert failure.value.code == "out_of_memory"
    assert picture(engine, request(LIGHTNING)).std() > 5


def test_other_models_are_unloaded_for_an_image_that_does_not_fit(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.load(SCHNELL)
    engine.load(LIGHTNING)
    decode_at_most(0, monkeypatch)
    with pytest.raises(JobFailure):
        render(engine, [item(request(LIGHTNING))])
    assert engine.resident == [LIGHTNING]


def test_the_model_longest_without_use_gives_way_to_the_next(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.load(BASE)
    engine.load(SCHNELL)
    render(engine, [item(request(BASE))])
    original = Loader.pipeline

    def two_at_most(self: Loader, *args: Any) -> Any:
        if len(engine.resident) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, *args)

    monkeypatch.setattr(Loader, "pipeline", two_at_most)
    engine.load(LIGHTNING)
    assert engine.resident == [BASE, LIGHTNING]


def test_a_model_that_never_fits_is_out_of_memory(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> Any:  # noqa: ARG001
        raise torch.OutOfMemoryError("CUDA out of memory")

    engine.load(BASE)
    monkeypatch.setattr(Loader, "pipeline", full)
    with pytest.raises(JobFailure) as failure:
        engine.load(SCHNELL)
    assert failure.value.code == "out_of_memory"
    assert engine.resident == []


def test_a_device_that_broke_is_told_from_a_request_that_failed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: torch.Tensor) -> Any:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(PICTURES_OF, broken)
    assert not engine.device_lost
    with pytest.raises(JobFailure) as failure:
        render(engine, [item(request(LIGHTNING))])
    assert failure.value.code == "worker_lost"
    assert engine.device_lost


def test_an_error_of_the_pipeline_is_render_failed_and_holds_no_tensors(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(_: torch.Tensor) -> Any:
        raise ValueError("shapes do not match")

    monkeypatch.setattr(PICTURES_OF, wrong)
    with pytest.raises(JobFailure, match="shapes do not match") as failure:
        render(engine, [item(request(LIGHTNING))])
    assert failure.value.code == "render_failed"
    assert failure.value.__context__ is None
    assert not engine.device_lost


def test_a_picture_that_is_not_a_number_is_invalid_output(tiny_models: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_models / SCHNELL, tmp_path / SCHNELL)
    file = tmp_path / SCHNELL / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["decoder.conv_out.bias"].fill_(torch.nan)
    save_file(weights, file, metadata={"format": "pt"})
    shutil.copytree(tiny_models / BASE, tmp_path / BASE)
    engine = Engine(CATALOG, Settings(models_dir=str(tmp_path), models_offline=True), device="cpu")
    with pytest.raises(JobFailure) as failure:
        render(engine, [item(request(SCHNELL))])
    assert failure.value.code == "invalid_output"
    assert picture(engine, request(BASE)).std() > 5


def test_a_pipeline_that_makes_too_few_pictures_is_render_failed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PICTURES_OF, lambda tensor: pictures_of(tensor)[1:])
    with pytest.raises(JobFailure) as failure:
        render(engine, [item(request(LIGHTNING))])
    assert failure.value.code == "render_failed"

"""Prompts are encoded once, as long as memory allows, and never by the wrong encoders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import FluxPipeline, StableDiffusionXLPipeline
from prometheus_client import REGISTRY

from shared.models import Mode
from shared.settings import Settings
from tests.integration.engine.rendering import (
    BASE,
    CATALOG,
    EVERYTHING,
    FILL,
    LIGHTNING,
    NAMES,
    SCHNELL,
    item,
    picture,
    render,
    request,
)
from worker.engine import Engine

#: More than the encodings of one prompt of SDXL's tiny twin, less than those of two.
ROOM_FOR_ONE = 80_000


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """The texts of each call of a pipeline's encoders."""
    calls: list[list[str]] = []

    def noting(original: Any) -> Any:
        def encode(self: Any, prompt: list[str] | None, *args: Any, **options: Any) -> Any:
            if prompt is not None:
                # Else the pipeline only passes on what was encoded before.
                calls.append(prompt)
            return original(self, prompt, *args, **options)

        return encode

    for pipeline in (StableDiffusionXLPipeline, FluxPipeline):
        monkeypatch.setattr(pipeline, "encode_prompt", noting(pipeline.encode_prompt))
    return calls


def engine_with(tiny_models: Path, text_cache_bytes: int = 2**20) -> Engine:
    settings = Settings(models_dir=str(tiny_models), models_offline=True, text_cache_bytes=text_cache_bytes)
    return Engine(CATALOG, settings, device="cpu")


def texts(model: str, result: str) -> float:
    return REGISTRY.get_sample_value("rendermill_texts_total", {"model": model, "result": result}) or 0.0


@pytest.mark.parametrize("model", [BASE, SCHNELL])
def test_a_prompt_is_encoded_once_within_a_batch_and_over_batches(
    tiny_models: Path, encoded: list[list[str]], model: str
) -> None:
    engine = engine_with(tiny_models)
    hits, misses = texts(model, "hit"), texts(model, "miss")
    cat = request(model, prompt="a cat", negative_prompt="rain")
    dog = request(model, prompt="a dog", negative_prompt="rain")
    render(engine, [item(cat, 1), item(cat, 2), item(dog, 1)])
    render(engine, [item(dog, 3), item(request(model, prompt="a fox", negative_prompt="rain"), 1)])
    assert encoded == [["a cat", "a dog", "rain"], ["a fox"]]
    assert (texts(model, "hit") - hits, texts(model, "miss") - misses) == (2, 4)


@pytest.mark.parametrize(("model", "mode"), EVERYTHING, ids=NAMES)
def test_a_picture_of_a_known_prompt_is_the_same(tiny_models: Path, model: str, mode: Mode) -> None:
    asked = request(model, mode)
    fresh, caching = engine_with(tiny_models, 0), engine_with(tiny_models)
    picture(caching, asked, seed=9)
    assert np.array_equal(picture(fresh, asked), picture(caching, asked))


def test_base_and_lightning_know_each_others_prompts(tiny_models: Path, encoded: list[list[str]]) -> None:
    engine = engine_with(tiny_models)
    picture(engine, request(BASE, guidance_scale=1.0))
    picture(engine, request(LIGHTNING))
    assert len(encoded) == 1


def test_adapters_and_other_encoders_encode_for_themselves(tiny_models: Path, encoded: list[list[str]]) -> None:
    engine = engine_with(tiny_models)
    plain = request(BASE, guidance_scale=1.0)
    picture(engine, plain)
    picture(engine, request(BASE, guidance_scale=1.0, loras=[{"id": "lcm-lora-sdxl"}]))
    picture(engine, request(SCHNELL))
    assert encoded == [[plain.prompt]] * 3


def test_a_model_that_comes_back_knows_its_texts_and_one_loaded_again_does_not(
    tiny_models: Path, encoded: list[list[str]]
) -> None:
    engine = engine_with(tiny_models)
    picture(engine, request(SCHNELL))
    engine._residency.make_room_for(CATALOG.models[FILL])
    picture(engine, request(SCHNELL))
    assert len(encoded) == 1
    # On a CPU, first it leaves the device, then the host.
    while engine._residency.make_room_for(CATALOG.models[FILL]):
        pass
    picture(engine, request(SCHNELL))
    assert len(encoded) == 2


def test_the_prompts_longest_without_use_give_way(tiny_models: Path, encoded: list[list[str]]) -> None:
    engine = engine_with(tiny_models, ROOM_FOR_ONE)
    for prompt in ("a cat", "a cat", "a dog", "a cat"):
        picture(engine, request(BASE, prompt=prompt, guidance_scale=1.0))
    assert encoded == [["a cat"], ["a dog"], ["a cat"]]
    assert 0 < engine._texts.bytes_kept <= ROOM_FOR_ONE


def test_without_room_nothing_is_kept(tiny_models: Path, encoded: list[list[str]]) -> None:
    engine = engine_with(tiny_models, 0)
    for _ in range(2):
        picture(engine, request(BASE, guidance_scale=1.0))
    assert len(encoded) == 2
    assert engine._texts.bytes_kept == 0


def test_known_prompts_make_room_for_an_image_that_does_not_fit(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_with(tiny_models)
    engine.load(SCHNELL)
    picture(engine, request(LIGHTNING))
    original = Engine._render_chunk

    def full(self: Engine, *args: Any) -> Any:
        return original(self, *args) if not self._texts.bytes_kept else None

    monkeypatch.setattr(Engine, "_render_chunk", full)
    picture(engine, request(LIGHTNING))
    assert engine.resident == [SCHNELL, LIGHTNING]

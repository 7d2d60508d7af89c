"""LoRA adapters: what they change, and that nothing else of theirs is to be noticed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared.catalog import Catalog
from shared.errors import JobFailure
from shared.loras import Lora, LoraUse
from shared.settings import Settings
from tests.integration.engine.rendering import BASE, CATALOG, LIGHTNING, SCHNELL, Pixels, distance, item, request
from worker.engine import Engine
from worker.engine.adapters import IDLE_KEPT, Adapters
from worker.engine.architectures import Part
from worker.engine.tiny_loras import write_lora
from worker.engine.tiny_recipes import TINY_SCHNELL, TINY_SDXL

#: Mean difference from which two pictures look different.
VISIBLE = 1.0
MANY = [f"many-{number}" for number in range(IDLE_KEPT + 3)]
#: By id, the networks that it changes.
ADAPTERS: Mapping[str, Mapping[str, Part]] = {
    "style": {"unet": TINY_SDXL.parts["unet"]},
    "words": {name: TINY_SDXL.parts[name] for name in ("unet", "text_encoder", "text_encoder_2")},
    "flow": {"transformer": TINY_SCHNELL.parts["transformer"]},
    **{name: {"unet": TINY_SDXL.parts["unet"]} for name in MANY},
}
#: Adapters that the catalog offers and that are not what it says.
WRONG = ["missing", "broken", "flow"]


def lora(id_: str) -> Lora:
    return Lora(id=id_, name=id_, models=(), source="adapters", file=f"{id_}.safetensors", licence="none")


OFFERED = tuple(lora(id_) for id_ in (*ADAPTERS, "missing", "broken"))
LORAS = Catalog(replace(model, loras=OFFERED) for model in CATALOG.models.values())


@pytest.fixture(scope="module")
def models(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    for folder in tiny_models.iterdir():
        (directory / folder.name).symlink_to(folder)
    for seed, (id_, parts) in enumerate(ADAPTERS.items()):
        write_lora(directory / "adapters" / f"{id_}.safetensors", parts, seed=seed)
    (directory / "adapters" / "broken.safetensors").write_bytes(b"not weights")
    return directory


@pytest.fixture(scope="module")
def engine(models: Path) -> Engine:
    return Engine(LORAS, Settings(models_dir=str(models), models_offline=True), device="cpu")


def picture(engine: Engine, model: str, *uses: tuple[str, float], seed: int = 1, **fields: Any) -> Pixels:
    return pictures(engine, model, *uses, seeds=[seed], **fields)[0]


def pictures(engine: Engine, model: str, *uses: tuple[str, float], seeds: list[int], **fields: Any) -> list[Pixels]:
    asked = replace(request(model, **fields), loras=tuple(LoraUse(*use) for use in uses))
    rendered = engine.render(LORAS.models[model], [item(asked, seed) for seed in seeds], lambda *_: False)
    return [np.asarray(image).astype(float) for image in rendered.images]


@pytest.mark.parametrize(("model", "id_"), [(BASE, "style"), (LIGHTNING, "style"), (BASE, "words"), (SCHNELL, "flow")])
def test_an_adapter_changes_the_picture_the_more_the_larger_its_scale(engine: Engine, model: str, id_: str) -> None:
    plain = picture(engine, model)
    half, full = picture(engine, model, (id_, 0.3)), picture(engine, model, (id_, 1.0))
    assert 0 < distance(plain, half) < distance(plain, full)
    assert distance(plain, full) > VISIBLE


@pytest.mark.parametrize(("model", "id_"), [(BASE, "words"), (SCHNELL, "flow")])
def test_after_an_adapter_the_model_is_what_it_was(engine: Engine, model: str, id_: str) -> None:
    plain = picture(engine, model)
    picture(engine, model, (id_, 1.0))
    assert np.array_equal(plain, picture(engine, model))
    assert np.array_equal(plain, picture(engine, model, (id_, 0.0)))


def test_an_adapter_is_swapped_for_another_and_back(engine: Engine) -> None:
    one = picture(engine, BASE, ("style", 0.8))
    other = picture(engine, BASE, ("words", 0.8))
    assert distance(one, other) > VISIBLE
    assert np.array_equal(one, picture(engine, BASE, ("style", 0.8)))


def test_several_adapters_work_together_in_any_order(engine: Engine) -> None:
    both = picture(engine, BASE, ("style", 0.5), ("words", 0.5))
    assert distance(both, picture(engine, BASE, ("style", 0.5))) > VISIBLE
    assert distance(both, picture(engine, BASE, ("words", 0.5))) > VISIBLE
    assert np.abs(both - picture(engine, BASE, ("words", 0.5), ("style", 0.5))).max() <= 1


def test_with_adapters_a_picture_is_the_same_alone_and_in_a_batch(engine: Engine) -> None:
    seeds = [3, 4, 5]
    together = pictures(engine, BASE, ("words", 0.7), seeds=seeds, scheduler="euler_a")
    for seed, pixels in zip(seeds, together, strict=True):
        alone = picture(engine, BASE, ("words", 0.7), seed=seed, scheduler="euler_a")
        assert np.abs(pixels - alone).max() <= 1


def test_an_adapter_does_not_reach_the_model_that_shares_its_text_encoders(engine: Engine) -> None:
    plain = picture(engine, LIGHTNING)
    picture(engine, BASE, ("words", 1.0))
    assert np.array_equal(plain, picture(engine, LIGHTNING))
    with_style = picture(engine, LIGHTNING, ("style", 1.0))
    picture(engine, BASE, ("words", 1.0))
    assert np.array_equal(with_style, picture(engine, LIGHTNING, ("style", 1.0)))


def test_only_the_adapters_used_last_stay_attached(engine: Engine) -> None:
    first = picture(engine, BASE, (MANY[0], 1.0))
    for id_ in MANY[1:]:
        picture(engine, BASE, (id_, 1.0))
    attached = engine._residency.get(LORAS.models[BASE]).get_list_adapters()["unet"]
    assert len(attached) == IDLE_KEPT + 1
    assert np.array_equal(first, picture(engine, BASE, (MANY[0], 1.0)))


def test_idle_adapters_make_room_for_an_image_that_does_not_fit(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(engine, BASE, (MANY[0], 1.0))
    picture(engine, BASE, (MANY[1], 1.0))
    original, pipeline = Adapters.use, engine._residency.get(LORAS.models[BASE])

    def full(self: Adapters, *args: Any) -> None:
        original(self, *args)
        if len(pipeline.get_list_adapters()["unet"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Adapters, "use", full)
    picture(engine, BASE, (MANY[1], 1.0))
    assert BASE in engine.resident


@pytest.mark.parametrize("id_", WRONG)
def test_an_adapter_that_is_missing_broken_or_of_another_family_is_unavailable(engine: Engine, id_: str) -> None:
    plain = picture(engine, BASE)
    for _ in range(2):
        with pytest.raises(JobFailure, match=f"adapter {id_}") as failure:
            picture(engine, BASE, (id_, 1.0))
        assert failure.value.code == "model_unavailable"
    assert np.array_equal(plain, picture(engine, BASE))


def test_an_adapter_that_the_catalog_has_no_more_is_unsupported(engine: Engine) -> None:
    with pytest.raises(JobFailure, match="'gone'") as failure:
        picture(engine, BASE, ("gone", 1.0))
    assert failure.value.code == "unsupported"

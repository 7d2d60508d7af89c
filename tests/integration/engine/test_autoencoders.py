"""The autoencoder works in the model's dtype, its own or the one that the catalog names instead."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import Decoder

from shared.catalog import Catalog
from shared.errors import JobFailure
from shared.models import Mode, Model, VAESource
from shared.settings import Settings
from tests.integration.engine.rendering import BASE, CATALOG, LIGHTNING, distance, item, request
from worker.engine import Engine, Rendered
from worker.engine.checkpoints import Loader

TWIN = "somebody/sdxl-vae-fp16"


@pytest.fixture
def models_dir(tiny_models: Path, tmp_path: Path) -> Path:
    """The base model, its UNet for few steps, and an autoencoder with its files in a folder of their own."""
    for source in (BASE, LIGHTNING):
        (tmp_path / source).parent.mkdir()
        (tmp_path / source).symlink_to(tiny_models / source)
    shutil.copytree(tiny_models / BASE / "vae", tmp_path / TWIN)
    return tmp_path


def with_twin(model: str) -> Model:
    return replace(CATALOG.models[model], vae=VAESource(source=TWIN), dtype="float16")


def engine_of(models_dir: Path, *models: Model) -> Engine:
    return Engine(Catalog(models), Settings(models_dir=str(models_dir), models_offline=True), device="cpu")


@pytest.fixture
def in_dtype(monkeypatch: pytest.MonkeyPatch) -> Callable[[torch.dtype], list[torch.dtype]]:
    """Has models run in a GPU's dtype, and notes in which the pictures are decoded."""
    decoded: list[torch.dtype] = []
    original = Decoder.forward

    def noting(self: Decoder, sample: torch.Tensor, *args: Any) -> Any:
        decoded.append(sample.dtype)
        return original(self, sample, *args)

    def use(dtype: torch.dtype) -> list[torch.dtype]:
        monkeypatch.setattr(Loader, "dtype", lambda *_: dtype)
        monkeypatch.setattr(Decoder, "forward", noting)
        return decoded

    return use


def render(models_dir: Path, model: Model, mode: Mode = Mode.TEXT_TO_IMAGE) -> Rendered:
    rendered = engine_of(models_dir, model).render(model, [item(request(BASE, mode, num_steps=1))], lambda *_: False)
    assert np.asarray(rendered.images[0]).std() > 5
    return rendered


@pytest.mark.parametrize("mode", [Mode.TEXT_TO_IMAGE, Mode.IMAGE_TO_IMAGE])
def test_in_bfloat16_pictures_are_decoded_without_widening(
    models_dir: Path, in_dtype: Callable[[torch.dtype], list[torch.dtype]], mode: Mode
) -> None:
    decoded = in_dtype(torch.bfloat16)
    render(models_dir, CATALOG.models[BASE], mode)
    assert decoded == [torch.bfloat16]


def test_an_autoencoder_of_the_catalogs_decodes_in_float16(
    models_dir: Path, in_dtype: Callable[[torch.dtype], list[torch.dtype]]
) -> None:
    decoded = in_dtype(torch.float16)
    render(models_dir, with_twin(BASE))
    assert decoded == [torch.float16]


def test_decoding_in_half_precision_changes_a_picture_by_a_few_levels(models_dir: Path) -> None:
    model = CATALOG.models[BASE]
    vae = engine_of(models_dir, model)._residency.get(model).vae
    latents = 2 * torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    levels = {}
    with torch.inference_mode():
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            values = vae.to(dtype).decode(latents.to(dtype)).sample.float()
            levels[dtype] = ((values / 2 + 0.5).clamp(0, 1) * 255).round().numpy().astype(float)
    assert 0 < distance(levels[torch.bfloat16], levels[torch.float32]) < 1
    assert distance(levels[torch.float16], levels[torch.float32]) < 0.1


def test_models_share_an_autoencoder_where_it_is_the_same(models_dir: Path) -> None:
    one, other = with_twin(BASE), with_twin(LIGHTNING)
    plain = replace(one, id="plain", aliases=(), vae=None)
    residency = engine_of(models_dir, one, other, plain)._residency
    assert residency.get(one).vae is residency.get(other).vae
    # Here both folders hold the same file, but whether a pipeline widens an autoencoder is its own affair.
    assert residency.get(plain).vae is not residency.get(one).vae
    assert residency.get(plain).text_encoder is residency.get(one).text_encoder


def test_its_revision_is_part_of_the_provenance(models_dir: Path) -> None:
    assert render(models_dir, with_twin(BASE)).provenance["revisions"] == {BASE: None, TWIN: None}


def test_one_that_is_missing_or_broken_is_unavailable(models_dir: Path) -> None:
    model = with_twin(BASE)
    (models_dir / TWIN / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL", "latent_channels": 3}))
    with pytest.raises(JobFailure) as failure:
        engine_of(models_dir, model).load(BASE)
    assert failure.value.code == "model_unavailable"
    shutil.rmtree(models_dir / TWIN)
    with pytest.raises(JobFailure, match=TWIN) as failure:
        engine_of(models_dir, model).load(BASE)
    assert failure.value.code == "model_unavailable"

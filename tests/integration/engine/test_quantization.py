"""Float8: which layers change, how little the pictures do, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from shared.acceleration import Quantize
from shared.catalog import Catalog
from shared.errors import JobFailure
from shared.settings import Settings
from tests.integration.engine.rendering import BASE, CATALOG, SCHNELL, distance, item, picture, request
from worker.engine import Engine
from worker.engine.quantization import Float8Linear, check_device

QUANTIZED = {id_: replace(CATALOG.models[id_], quantize=Quantize.FP8, loras=()) for id_ in (BASE, SCHNELL)}
#: By how many levels of 255 a tiny model's picture may change on average; measured are 0.3 and 0.55. A picture of
#: another seed is ten times as far.
TOLERANCE = 1.0


@pytest.fixture(scope="module")
def quantized(tiny_models: Path) -> Engine:
    settings = Settings(models_dir=str(tiny_models), models_offline=True)
    return Engine(Catalog(QUANTIZED.values()), settings, device="cpu")


@pytest.mark.parametrize("model", [BASE, SCHNELL])
def test_pictures_stay_close_to_those_of_the_plain_model_whatever_shares_the_batch(
    engine: Engine, quantized: Engine, model: str
) -> None:
    asked = request(model)
    rendered = quantized.render(QUANTIZED[model], [item(asked, seed) for seed in (1, 2)], lambda *_: False)
    first, second = (np.asarray(image).astype(float) for image in rendered.images)
    plain = picture(engine, asked, 1)
    assert 0 < distance(first, plain) < TOLERANCE
    assert distance(second, plain) > 3 * TOLERANCE
    alone = quantized.render(QUANTIZED[model], [item(asked, 1)], lambda *_: False)
    assert distance(first, np.asarray(alone.images[0]).astype(float)) < TOLERANCE / 2
    assert rendered.provenance["quantize"] == "fp8"


def test_only_layers_that_work_on_every_token_of_a_block_change(quantized: Engine) -> None:
    quantized.load(SCHNELL)
    transformer = quantized._residency.get(QUANTIZED[SCHNELL]).transformer
    changed = {name for name, module in transformer.named_modules() if isinstance(module, Float8Linear)}
    kept = {name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)}
    assert {"transformer_blocks.0.attn.to_q", "single_transformer_blocks.1.proj_mlp"} <= changed
    assert {"transformer_blocks.0.norm1.linear", "x_embedder", "proj_out"} <= kept
    assert transformer.dtype is torch.float32


def test_a_layer_with_sizes_that_the_kernels_do_not_take_stays(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.engine.quantization._MULTIPLE", 97)
    settings = Settings(models_dir=str(tiny_models), models_offline=True)
    engine = Engine(Catalog(QUANTIZED.values()), settings, device="cpu")
    engine.load(SCHNELL)
    transformer = engine._residency.get(QUANTIZED[SCHNELL]).transformer
    assert not any(isinstance(module, Float8Linear) for module in transformer.modules())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_layer_answers_in_its_inputs_dtype_within_what_float8_resolves(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    linear = nn.Linear(64, 32, dtype=dtype)
    tokens = torch.randn(2, 5, 64, dtype=dtype)
    # A token far louder than the others must not cost them their resolution; one of zeros has none to lose.
    tokens[0, 0] *= 1000
    tokens[1, 1] = 0
    out, exact = Float8Linear(linear)(tokens), linear(tokens)
    assert out.dtype is dtype
    error = (out - exact).float().norm(dim=-1) / exact.float().norm(dim=-1)
    assert 0 < error.max() < 0.06


def test_models_of_one_source_share_no_quantized_denoiser(tiny_models: Path) -> None:
    plain = replace(CATALOG.models[SCHNELL], id="plain", aliases=())
    engine = Engine(
        Catalog([plain, QUANTIZED[SCHNELL]]), Settings(models_dir=str(tiny_models), models_offline=True), device="cpu"
    )
    one, other = (engine.load(id_) and engine._residency.get(engine._catalog.find(id_)) for id_ in ("plain", SCHNELL))
    assert one.transformer is not other.transformer
    assert one.text_encoder_2 is other.text_encoder_2


def test_a_card_without_float8_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA A100")
    with pytest.raises(JobFailure, match=r"compute capability 8.9 or later .* this is 8.0, NVIDIA A100") as refused:
        check_device(QUANTIZED[SCHNELL], torch.device("cuda"))
    assert refused.value.code == "model_unavailable"
    check_device(CATALOG.models[SCHNELL], torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    check_device(QUANTIZED[SCHNELL], torch.device("cuda"))

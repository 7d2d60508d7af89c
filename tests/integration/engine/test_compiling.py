"""torch.compile: what of a model it takes in, and that its pictures stay what they are."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from shared.acceleration import Compile
from shared.catalog import Catalog
from shared.settings import Settings
from tests.integration.engine.rendering import BASE, CATALOG, LIGHTNING, SCHNELL, SIDE, item, picture, render, request
from worker.engine import Engine

#: Where torch keeps kernels.
KERNELS = "TORCHINDUCTOR_CACHE_DIR"
# What torch says of its own insides while it imports its compiler.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def torch_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(KERNELS, "")
    monkeypatch.delenv(KERNELS)
    yield
    torch._dynamo.reset()
    torch._dynamo.config.suppress_errors = False


def compiling(tiny_models: Path, how: Compile, cache: Path | None = None, *models: str) -> Engine:
    small = replace(CATALOG.models[BASE].size, default=SIDE)
    catalog = Catalog(replace(CATALOG.models[id_], compile=how, batch_limit=2, size=small) for id_ in models)
    settings = Settings(models_dir=str(tiny_models), models_offline=True, compile_cache=str(cache or ""))
    return Engine(catalog, settings, device="cpu")


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The classes of the networks that are asked to compile; none of them really is."""
    names: list[str] = []

    def note(self: nn.Module, *args: Any, **options: Any) -> None:  # noqa: ARG001
        names.append(type(self).__name__)
        self._compiled_call_impl = self._call_impl

    monkeypatch.setattr(nn.Module, "compile", note)
    return names


def test_off_compiles_nothing(tiny_models: Path, compiled: list[str]) -> None:
    compiling(tiny_models, Compile.OFF, None, BASE).load(BASE)
    assert compiled == []


def test_regional_compiles_the_denoisers_repeated_blocks(tiny_models: Path, compiled: list[str]) -> None:
    engine = compiling(tiny_models, Compile.REGIONAL, None, BASE, SCHNELL)
    engine.load(BASE)
    assert set(compiled) == {"BasicTransformerBlock"}
    engine.load(SCHNELL)
    assert set(compiled) > {"FluxTransformerBlock", "FluxSingleTransformerBlock"}


def test_full_compiles_denoiser_and_decoder_each_once(tiny_models: Path, compiled: list[str]) -> None:
    engine = compiling(tiny_models, Compile.FULL, None, BASE, LIGHTNING)
    engine.load(BASE)
    assert compiled == ["UNet2DConditionModel", "Decoder"]
    engine.load(LIGHTNING)
    assert compiled == ["UNet2DConditionModel", "Decoder", "UNet2DConditionModel"]


@pytest.mark.parametrize("how", [Compile.REDUCE_OVERHEAD, Compile.MAX_AUTOTUNE])
def test_pictures_survive_that_a_graph_writes_every_output_to_the_same_place(
    engine: Engine, tiny_models: Path, monkeypatch: pytest.MonkeyPatch, how: Compile
) -> None:
    """There are no CUDA graphs on a CPU: a stand-in for what replays them overwrites its last output, as they do."""
    modes: list[str] = []

    def record(self: nn.Module, *, mode: str) -> None:
        modes.append(mode)
        places: dict[Any, torch.Tensor] = {}

        def replay(*args: Any, **kwargs: Any) -> Any:
            out = self._call_impl(*args, **kwargs)
            fresh = out[0] if isinstance(out, tuple) else out
            place = places.setdefault(fresh.shape, torch.empty_like(fresh)).copy_(fresh)
            return (place,) if isinstance(out, tuple) else place

        self._compiled_call_impl = replay

    monkeypatch.setattr(nn.Module, "compile", record)
    fast = compiling(tiny_models, how, None, SCHNELL)
    # With guidance each step evaluates the network twice before it looks at either output.
    asked = request(SCHNELL, negative_prompt="dogs", num_steps=2)
    items = [item(asked, seed) for seed in (1, 2)]
    rendered = fast.render(fast._catalog.models[SCHNELL], items, lambda *_: False)
    assert modes == [how.value] * 2
    _, plain = render(engine, items)
    assert np.array_equal([np.asarray(image).astype(float) for image in rendered.images], plain)
    assert rendered.provenance["compile"] == how.value


def test_loading_warms_up_a_full_batch_and_one_image(
    tiny_models: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = compiling(tiny_models, Compile.REGIONAL, None, SCHNELL)
    sizes: list[int] = []
    original = Engine._render_chunk

    def noting(self: Engine, model: Any, items: Any, progress: Any) -> Any:
        sizes.append(len(items))
        return original(self, model, items, progress)

    monkeypatch.setattr(Engine, "_render_chunk", noting)
    assert engine.load(SCHNELL) > 0
    assert sizes == [2, 1]
    assert engine.load(SCHNELL) == 0
    assert sizes == [2, 1]
    assert compiled


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for the CPU with g++, and there is none")
def test_compiled_pictures_are_those_of_the_plain_model_and_the_kernels_are_kept(
    engine: Engine, tiny_models: Path, tmp_path: Path
) -> None:
    fast = compiling(tiny_models, Compile.REGIONAL, tmp_path / "kernels", SCHNELL)
    asked = request(SCHNELL, num_steps=1)
    rendered = fast.render(fast._catalog.models[SCHNELL], [item(asked, 1)], lambda *_: False)
    assert np.abs(np.asarray(rendered.images[0]).astype(float) - picture(engine, asked)).max() <= 1
    assert any((tmp_path / "kernels").rglob("*.so"))


def test_without_a_compiler_the_model_runs_as_it_is(
    engine: Engine, tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = compiling(tiny_models, Compile.REGIONAL, tmp_path / "kernels", SCHNELL)

    def no_compiler(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no C compiler")

    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", no_compiler)
    asked = request(SCHNELL, num_steps=1)
    rendered = fast.render(fast._catalog.models[SCHNELL], [item(asked, 1)], lambda *_: False)
    _, (plain,) = render(engine, [item(asked, 1)])
    assert np.array_equal(np.asarray(rendered.images[0]).astype(float), plain)

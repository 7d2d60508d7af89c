"""Spared steps: that some are, how little the pictures change, and that nothing leaks from one call into the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.acceleration import Compile, StepCache, StepCacheTechnique
from shared.catalog import Catalog
from shared.models import Mode
from shared.settings import Settings
from tests.integration.engine.rendering import CATALOG, FILL, Pixels, Steps, distance, item, picture, request
from worker.engine import Engine

TAYLORSEER = StepCache(technique=StepCacheTechnique.TAYLORSEER)
#: The tiny model changes more between steps than a real one.
FIRST_BLOCK = StepCache(technique=StepCacheTechnique.FIRST_BLOCK, threshold=0.3)
STEPS = 12
#: By how many levels of 255 a tiny model's picture may change on average; measured are 0.54 and 0.33. One made in as
#: many steps as are evaluated in full changes by 1.2.
TOLERANCE = 0.8
ASKED = request(FILL, Mode.INPAINTING, num_steps=STEPS)


class CachedEngine:
    """An engine for Fill with a step cache, and how often its last block was evaluated."""

    def __init__(self, models: Path, cache: StepCache, compiled: Compile = Compile.OFF) -> None:
        self.model = replace(CATALOG.models[FILL], step_cache=cache, compile=compiled)
        self.engine = Engine(Catalog([self.model]), Settings(models_dir=str(models), models_offline=True), "cpu")
        self.transformer = self.engine._residency.get(self.model).transformer
        self.evaluations = 0
        self.transformer.single_transformer_blocks[-1].proj_out.register_forward_hook(self._count)

    def _count(self, *_: object) -> None:
        self.evaluations += 1

    def pictures(self, *seeds: int) -> list[Pixels]:
        rendered = self.engine.render(self.model, [item(ASKED, seed) for seed in seeds], Steps())
        assert self.model.step_cache
        assert rendered.provenance["step_cache"] == self.model.step_cache.record
        return [np.asarray(image).astype(float) for image in rendered.images]


@pytest.mark.parametrize("cache", [TAYLORSEER, FIRST_BLOCK], ids=["taylorseer", "first-block"])
def test_steps_are_spared_and_pictures_stay_close_in_every_call(
    engine: Engine, tiny_models: Path, cache: StepCache
) -> None:
    cached = CachedEngine(tiny_models, cache)
    first = cached.pictures(1)[0]
    full = cached.evaluations
    assert 1 < full < STEPS
    assert 0 < distance(first, picture(engine, ASKED, 1)) < TOLERANCE
    # Another batch, of another size and cut off in the middle, leaves nothing behind.
    cached.engine.render(cached.model, [item(ASKED, seed) for seed in (5, 6)], Steps(stop_at=5))
    cached.evaluations = 0
    assert np.array_equal(cached.pictures(1)[0], first)
    assert cached.evaluations == full


def test_with_taylorseer_a_picture_does_not_depend_on_its_batch(tiny_models: Path) -> None:
    cached = CachedEngine(tiny_models, TAYLORSEER)
    alone, shared = cached.pictures(1)[0], cached.pictures(5, 1)[1]
    assert np.abs(alone - shared).max() <= 1


@pytest.fixture
def compiled_functions(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The functions that are handed to torch.compile; none of them really is compiled."""
    names: list[str] = []

    def note(function: torch.nn.Module) -> torch.nn.Module:
        names.append(function.__qualname__)
        return function

    monkeypatch.setattr(torch, "compile", note)
    yield names
    torch._dynamo.config.suppress_errors = False


def test_blocks_are_compiled_beneath_the_cache(tiny_models: Path, compiled_functions: list[str]) -> None:
    cached = CachedEngine(tiny_models, TAYLORSEER, Compile.REGIONAL)
    assert set(compiled_functions) == {"FluxTransformerBlock.forward", "FluxSingleTransformerBlock.forward"}
    cached.pictures(1)
    assert cached.evaluations < STEPS

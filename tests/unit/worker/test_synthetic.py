"""The engine that sleeps, and the choice of the engine a worker renders with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from shared.catalog import Catalog, load_catalog
from shared.models import Model
from shared.requests import resolve
from shared.settings import Settings
from tests.unit.worker.fakes import FakeEngine
from worker.engine import Item
from worker.engines import MixedEngine, engine_for
from worker.synthetic import SyntheticEngine

EXAMPLE = Path(__file__).parents[3] / "examples" / "synthetic.toml"
CATALOG = load_catalog(EXAMPLE)
MODEL = CATALOG.models["synthetic-8"]


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept, without sleeping, on a clock that stands still otherwise."""
    naps: list[float] = []
    # The module's alone: other tests have left threads that sleep.
    monkeypatch.setattr("worker.synthetic.time", SimpleNamespace(sleep=naps.append, perf_counter=lambda: sum(naps)))
    return naps


def items(count: int, **fields: object) -> list[Item]:
    request, _ = resolve(CATALOG, {"model": MODEL.id, "prompt": "a cat", "seed": 1, **fields})
    return [Item(request, request.seed + number) for number in range(count)]


def never(step: int, total: int) -> bool:  # noqa: ARG001
    return False


def engine() -> SyntheticEngine:
    return SyntheticEngine([MODEL])


def test_a_batch_takes_its_time_in_even_steps_however_many_images_it_has(naps: list[float]) -> None:
    steps: list[tuple[int, int]] = []

    def on_step(step: int, total: int) -> bool:
        steps.append((step, total))
        return False

    rendered = engine().render(MODEL, items(MODEL.batch_limit, num_steps=4), on_step)
    assert naps == pytest.approx([0.5] * 4)
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert rendered.render_s == pytest.approx(2.0)
    assert len(rendered.images) == MODEL.batch_limit


def test_more_images_than_fit_a_batch_take_several(naps: list[float]) -> None:
    rendered = engine().render(MODEL, items(MODEL.batch_limit + 1, num_steps=1), never)
    assert sum(naps) == pytest.approx(4.0)
    assert len(rendered.images) == MODEL.batch_limit + 1


def test_a_batch_stops_at_the_step_at_which_it_is_told_to(naps: list[float]) -> None:
    rendered = engine().render(MODEL, items(1, num_steps=4), lambda step, _: step == 3)
    assert rendered.interrupted
    assert rendered.images == []
    assert sum(naps) == pytest.approx(1.5)


def slow_to_load(model_id: str, load_s: float) -> Model:
    assert MODEL.synthetic is not None
    return replace(MODEL, id=model_id, synthetic=replace(MODEL.synthetic, load_s=load_s))


def test_of_the_models_that_take_time_to_load_one_is_loaded_at_a_time(naps: list[float]) -> None:
    first, second = slow_to_load("first", 5.0), slow_to_load("second", 7.0)
    loading = SyntheticEngine([MODEL, first, second])
    assert loading.resident == [MODEL.id]
    rendered = [loading.render(model, items(1, num_steps=1), never) for model in (first, first, second, MODEL, first)]
    assert [one.load_s for one in rendered] == [5.0, 0.0, 7.0, 0.0, 5.0]
    assert sum(naps) == pytest.approx(5 + 7 + 5 + 5 * 2.0)
    assert loading.resident == [MODEL.id, "first"]
    assert (loading.load("first"), loading.load("second")) == (0.0, 7.0)
    assert loading.resident == [MODEL.id, "second"]


@pytest.mark.usefixtures("naps")
def test_a_picture_follows_from_its_seed_and_has_the_size_asked_for() -> None:
    first, second = engine().render(MODEL, items(2, width=64, height=32), never).images
    again = engine().render(MODEL, items(1, width=64, height=32), never).images[0]
    assert first.size == (64, 32)
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != second.tobytes()


def real_and_synthetic(monkeypatch: pytest.MonkeyPatch) -> tuple[FakeEngine, Catalog, Sequence[Model]]:
    real = FakeEngine()
    monkeypatch.setattr("worker.engine.Engine", lambda *_: real, raising=False)
    catalog = Catalog([*load_catalog(Settings().catalog_path).models.values(), *CATALOG.models.values()])
    return real, catalog, list(catalog.models.values())


@pytest.mark.usefixtures("naps")
def test_a_worker_may_serve_synthetic_models_beside_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    real, catalog, served = real_and_synthetic(monkeypatch)
    mixed = engine_for(served, catalog, Settings())
    assert isinstance(mixed, MixedEngine)
    assert mixed.resident == list(CATALOG.models)
    mixed.render(MODEL, items(1), never)
    assert real.batches == []
    mixed.render(catalog.find("sdxl-base"), items(1), never)
    assert real.batches == [["a cat"]]
    real.device_lost = True
    assert mixed.device_lost


def test_a_worker_without_synthetic_models_has_the_real_engine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    real, catalog, _ = real_and_synthetic(monkeypatch)
    assert engine_for([catalog.find("sdxl-base")], catalog, Settings()) is real


def test_a_worker_of_synthetic_models_alone_imports_no_torch() -> None:
    program = (
        "import sys\n"
        "from worker.roles import RenderRole\n"
        "from shared.settings import Settings, settings\n"
        "RenderRole(settings())\n"
        "assert not {'torch', 'diffusers', 'transformers'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], env={"RENDERMILL_CATALOG": str(EXAMPLE)}, check=True)

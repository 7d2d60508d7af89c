"""Which engine a worker renders with: it follows from the families of the models that it serves.

The renderer knows the protocol alone. The engine of the diffusion models brings torch into the process, which takes a
second and hundreds of megabytes; so it is built only where a model needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from shared.catalog import Catalog
from shared.models import SYNTHETIC, Model
from shared.settings import Settings
from worker.engine import Item, OnStep, Rendered
from worker.synthetic import SyntheticEngine


class RenderEngine(Protocol):
    """Renders on one device, one call at a time. Safe to share between threads."""

    @property
    def device_name(self) -> str:
        """What operators call the device."""

    @property
    def resident(self) -> list[str]:
        """The ids of the loaded models."""

    @property
    def device_lost(self) -> bool:
        """Whether the device failed for good: every further call of this process fails; it has to start again."""

    def load(self, model_id: str) -> float:
        """Load a model and keep it; the seconds that took. Raises JobFailure `model_unavailable`."""

    def render(self, model: Model, items: Sequence[Item], on_step: OnStep) -> Rendered:
        """Render the items, which share a lane, loading the model if need be. Raises JobFailure."""


class MixedEngine:
    """Synthetic models and real ones in one worker: each call goes to the engine that the model's family needs."""

    def __init__(self, catalog: Catalog, real: RenderEngine, synthetic: RenderEngine) -> None:
        self._catalog = catalog
        self._real = real
        self._synthetic = synthetic

    @property
    def device_name(self) -> str:
        return self._real.device_name

    @property
    def resident(self) -> list[str]:
        return self._real.resident + self._synthetic.resident

    @property
    def device_lost(self) -> bool:
        return self._real.device_lost

    def load(self, model_id: str) -> float:
        return self._engine_of(self._catalog.find(model_id)).load(model_id)

    def render(self, model: Model, items: Sequence[Item], on_step: OnStep) -> Rendered:
        return self._engine_of(model).render(model, items, on_step)

    def _engine_of(self, model: Model) -> RenderEngine:
        return self._synthetic if model.family == SYNTHETIC else self._real


def engine_for(served: Sequence[Model], catalog: Catalog, settings: Settings) -> RenderEngine:
    """An engine that renders every one of these models."""
    sleeping = [model for model in served if model.family == SYNTHETIC]
    synthetic = SyntheticEngine(sleeping)
    if len(sleeping) == len(served):
        return synthetic
    # Imports torch.
    from worker.engine import Engine

    real = Engine(catalog, settings)
    return MixedEngine(catalog, real, synthetic) if sleeping else real

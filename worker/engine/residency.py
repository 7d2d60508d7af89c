"""Which models are loaded. A model is loaded once and kept; models of one source share all parts that are the same."""

from __future__ import annotations

from typing import Any

from diffusers import DiffusionPipeline

from shared.catalog import Model
from worker.engine.checkpoints import Loader
from worker.engine.families import family_of

#: What a model with a UNet of its own does not share with the others of its source.
_DENOISER = "unet"


class Residency:
    """The loaded models of one device."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._loaded: dict[str, tuple[Model, DiffusionPipeline]] = {}

    @property
    def model_ids(self) -> list[str]:
        """The loaded models, the longest loaded first."""
        return list(self._loaded)

    def __contains__(self, model: Model) -> bool:
        return model.id in self._loaded

    def get(self, model: Model) -> DiffusionPipeline:
        """The model's pipeline, loaded if it is not. Raises JobFailure `model_unavailable`."""
        if model.id not in self._loaded:
            pipeline = self._loader.pipeline(model, family_of(model).loading_class, self._shareable(model))
            self._loaded[model.id] = (model, pipeline)
        return self._loaded[model.id][1]

    def _shareable(self, model: Model) -> dict[str, Any]:
        """Loaded networks and tokenizers of the model's own source, revision and dtype."""
        for other, pipeline in self._loaded.values():
            if (other.source, other.revision, other.dtype) == (model.source, model.revision, model.dtype):
                parts = {name: part for name, part in pipeline.components.items() if part is not None}
                if other.unet != model.unet:
                    del parts[_DENOISER]
                return parts
        return {}

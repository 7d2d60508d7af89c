"""Which models are loaded. A model is loaded once and kept, as long as the device has room for it.

Models share all parts that are the same: those of one source by their names, those of different sources by the contents
of their files. Where the device is full, the model that was longest without
use gives way: a card that cannot hold all models of its worker serves them all the same, at the price of loading.
"""

from __future__ import annotations

import gc
import logging
from typing import Any

import torch
from diffusers import DiffusionPipeline

from shared.errors import JobFailure
from shared.models import Model
from worker.engine.checkpoints import Loader
from worker.engine.families import family_of
from worker.engine.memory import is_out_of_memory

log = logging.getLogger(__name__)

#: What checkpoints of different sources may have in common: FLUX.1 schnell and Fill differ in their transformers alone.
_OFTEN_SHARED = ("text_encoder", "text_encoder_2", "vae")
#: What a model does not share with others of its source where it has one of its own, or changes it in another way.
_DENOISERS = ("unet", "transformer")


class Residency:
    """The loaded models of one device."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        #: The last used model is the last.
        self._loaded: dict[str, tuple[Model, DiffusionPipeline]] = {}

    @property
    def model_ids(self) -> list[str]:
        """The loaded models, the longest unused first."""
        return list(self._loaded)

    def __contains__(self, model: Model) -> bool:
        return model.id in self._loaded

    def get(self, model: Model) -> DiffusionPipeline:
        """The model's pipeline, loaded if it is not.

        Raises JobFailure `model_unavailable`, and `out_of_memory` where not even an otherwise empty device has room.
        """
        if model.id not in self._loaded:
            pipeline = self._load(model)
            while pipeline is None:
                if not self.make_room_for(model):
                    raise JobFailure("out_of_memory", f"The device has no room for {model.id}; it needs a larger one.")
                pipeline = self._load(model)
            self._loaded[model.id] = (model, pipeline)
        self._loaded[model.id] = self._loaded.pop(model.id)
        return self._loaded[model.id][1]

    def make_room_for(self, model: Model) -> bool:
        """Unload the model that was longest without use, but not `model`; False where there is none."""
        for model_id in self._loaded:
            if model_id != model.id:
                log.warning("unloading %s to make room for %s", model_id, model.id)
                del self._loaded[model_id]
                self.release_memory()
                return True
        return False

    def release_memory(self) -> None:
        """Give back what nothing refers to any more, so that other processes and larger blocks can have it."""
        gc.collect()
        if self._loader.device.type == "cuda":
            torch.cuda.empty_cache()

    def _load(self, model: Model) -> DiffusionPipeline | None:
        """The loaded pipeline; None where the device has no room for it."""
        try:
            return self._loader.pipeline(model, family_of(model).loading_class, self._shareable(model))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        self.release_memory()
        return None

    def _shareable(self, model: Model) -> dict[str, Any]:
        """Parts that are loaded already: all of the same source, and the networks that another has the same of."""
        parts: dict[str, Any] = {}
        for other, pipeline in self._loaded.values():
            if other.dtype != model.dtype:
                continue
            loaded = {name: part for name, part in pipeline.components.items() if part is not None}
            if (other.source, other.revision) == (model.source, model.revision):
                if _denoiser_of(other) != _denoiser_of(model):
                    loaded = {name: part for name, part in loaded.items() if name not in _DENOISERS}
                parts |= loaded
            else:
                shared = [name for name in _OFTEN_SHARED if name in loaded and name not in parts]
                parts |= {name: loaded[name] for name in shared if self._loader.have_same(name, model, other)}
        return parts


def _denoiser_of(model: Model) -> tuple[Any, ...]:
    """What decides, of two models of one source, whether their denoisers are the same."""
    return model.unet, model.quantize, model.step_cache, model.compile

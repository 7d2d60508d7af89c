"""LoRA adapters in the networks of the loaded models: attached when first asked for, switched on for one call.

An attached adapter that no call uses costs memory, but neither time nor a difference in any picture. So those last used
stay, and a change of adapters between two batches is a matter of switches.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Sequence

from diffusers import DiffusionPipeline

from shared.errors import JobFailure
from shared.loras import Lora, LoraUse
from shared.models import Model
from worker.engine.checkpoints import Loader, failures_explained

log = logging.getLogger(__name__)

#: Adapters of a model that stay attached without being used; one for SDXL or FLUX takes up to some hundred megabytes.
IDLE_KEPT = 4


class Adapters:
    """The adapters of all loaded models. What is attached is read from the networks: they come and go with them."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        #: Names in use or idle, the last used last.
        self._recent: dict[str, None] = {}

    def use(self, pipeline: DiffusionPipeline, model: Model, uses: Sequence[LoraUse]) -> None:
        """Let the model's loaded pipeline render with these adapters and no others.

        Raises JobFailure `unsupported` for one that the catalog does not offer with the model, and `model_unavailable`
        where its file cannot be loaded.
        """
        scales = {_name(model, use.id): use.scale for use in uses}
        for use in uses:
            if _name(model, use.id) not in _attached(pipeline):
                self._attach(pipeline, model, _offered(model, use.id))
        if scales:
            pipeline.enable_lora()
            pipeline.set_adapters(list(scales), list(scales.values()))
        elif _attached(pipeline):
            pipeline.disable_lora()
        for name in scales:
            self._recent.pop(name, None)
            self._recent[name] = None
        self._detach(pipeline, self._idle(pipeline, scales)[:-IDLE_KEPT])

    def drop_idle(self, pipeline: DiffusionPipeline, model: Model, uses: Sequence[LoraUse]) -> bool:
        """Give the memory of the model's idle adapters back; False where there are none."""
        idle = self._idle(pipeline, {_name(model, use.id) for use in uses})
        self._detach(pipeline, idle)
        return bool(idle)

    def _idle(self, pipeline: DiffusionPipeline, in_use: set[str] | dict[str, float]) -> list[str]:
        """The attached adapters that are not in use, the longest unused first."""
        attached = _attached(pipeline)
        return [name for name in self._recent if name in attached and name not in in_use]

    def _attach(self, pipeline: DiffusionPipeline, model: Model, lora: Lora) -> None:
        name = _name(model, lora.id)
        with failures_explained(f"The adapter {lora.id}", lora.source), warnings.catch_warnings():
            # Several adapters in a network are what is wanted.
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            file = self._loader.file(lora)
            try:
                pipeline.load_lora_weights(
                    str(file.parent), weight_name=file.name, adapter_name=name, use_safetensors=True
                )
                if name not in _attached(pipeline):
                    raise ValueError(f"{file.name} has no weights for the networks of {model.id}.")
            except Exception:
                # Part of it may be attached.
                self._detach(pipeline, [name])
                raise
        log.info("attached %s to %s", lora.id, model.id)

    def _detach(self, pipeline: DiffusionPipeline, names: Sequence[str]) -> None:
        if names:
            pipeline.delete_adapters(list(names))
        for name in names:
            self._recent.pop(name, None)


def _attached(pipeline: DiffusionPipeline) -> set[str]:
    """The names of the adapters in any network of the pipeline, also of one that it shares with another model."""
    return {name for names in pipeline.get_list_adapters().values() for name in names}


def _name(model: Model, lora_id: str) -> str:
    """What the networks call an adapter: without dots, and of its model, for models share text encoders."""
    return "lora_" + hashlib.sha256(f"{model.id} {lora_id}".encode()).hexdigest()[:16]


def _offered(model: Model, lora_id: str) -> Lora:
    for lora in model.loras:
        if lora.id == lora_id:
            return lora
    known = ", ".join(lora.id for lora in model.loras) or "none"
    raise JobFailure("unsupported", f"The catalog has no adapter {lora_id!r} for {model.id} any more; it has {known}.")

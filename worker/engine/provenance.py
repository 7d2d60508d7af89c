"""What made a picture besides its request: with the request's own parameters, all that is needed to make it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

from shared.loras import LoraUse
from shared.models import Model
from worker.engine.checkpoints import Loader

#: Whose arithmetic is in every picture.
_LIBRARIES = ("rendermill", "torch", "diffusers", "transformers")
#: Whose arithmetic is in pictures with adapters.
_ADAPTER_LIBRARIES = ("peft",)


def provenance(loader: Loader, device_name: str, model: Model, loras: Sequence[LoraUse]) -> dict[str, Any]:
    """The record, for JSON: revisions of the weights, device, dtype, what made it quicker, library versions."""
    used = {lora.id for lora in loras}
    sources = {model.source: model.revision}
    sources |= {part.source: part.revision for part in (model.unet, model.vae) if part}
    sources |= {lora.source: lora.revision for lora in model.loras if lora.id in used}
    libraries = _LIBRARIES + (_ADAPTER_LIBRARIES if used else ())
    return {
        "revisions": {source: loader.commit(source, revision) for source, revision in sources.items()},
        "device": device_name,
        "dtype": str(loader.dtype(model)).removeprefix("torch."),
        "quantize": model.quantize.value,
        "step_cache": model.step_cache and model.step_cache.record,
        "compile": model.compile.value,
        "versions": dict(_versions(libraries)),
    }


@cache
def _versions(libraries: tuple[str, ...]) -> Mapping[str, str]:
    return {library: version(library) for library in libraries}

"""Which models are on the device, which are in host memory, and what they share.

A model is loaded once and kept, as long as the budget of the device has room for it. Where it has not, another model
gives way: its weights move to host memory, within a budget of its own, and come back from there by a copy; beyond that
budget they are dropped, and read from disk when they are wanted again. So a card that cannot hold all models of its
worker serves them all the same.

Models share all networks that are the same: those of one source by their names, those of different sources by the
contents of their files. What a model on the device needs stays there, whoever else gives way.
"""

from __future__ import annotations

import gc
import logging
import math
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import nn

from shared.errors import JobFailure
from shared.models import Model
from worker import metrics
from worker.engine.checkpoints import Loader
from worker.engine.eviction import Candidate, first_to_go
from worker.engine.families import family_of
from worker.engine.memory import budget, device_memory, host_memory, is_out_of_memory
from worker.engine.weights import Weights

log = logging.getLogger(__name__)

#: What checkpoints of different sources may have in common: FLUX.1 schnell and Fill differ in their transformers alone.
_OFTEN_SHARED = ("text_encoder", "text_encoder_2", "vae")
#: What a model does not share with others of its source where it has one of its own, or changes it in another way.
_DENOISERS = frozenset({"unet", "transformer"})


@dataclass(slots=True, eq=False)
class _Held:
    """A model whose networks are in memory."""

    model: Model
    pipeline: DiffusionPipeline
    weights: list[Weights]
    on_device: bool = True
    #: The number of its last use.
    last_used: int = 0


class Residency:
    """The models that one device's worker has in memory."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._device_budget = budget(loader.settings.device_weights, device_memory(loader.device))
        self._host_budget = budget(loader.settings.host_weights, host_memory())
        self._held: dict[str, _Held] = {}
        self._uses = 0

    @property
    def model_ids(self) -> list[str]:
        """The models on the device, the longest unused first."""
        return [
            held.model.id for held in sorted(self._held.values(), key=lambda held: held.last_used) if held.on_device
        ]

    @property
    def device_bytes(self) -> int:
        """What the weights on the device take."""
        return sum(weights.nbytes for weights in self._all_weights() if weights.on_device)

    @property
    def host_bytes(self) -> int:
        """What those that gave way take of the host's memory."""
        return sum(weights.host_nbytes for weights in self._all_weights() if not weights.on_device)

    def __contains__(self, model: Model) -> bool:
        """Whether the model is on the device."""
        return model.id in self._held and self._held[model.id].on_device

    def get(self, model: Model) -> DiffusionPipeline:
        """The model's pipeline, on the device; brought there if it is not.

        Raises JobFailure `model_unavailable`, and `out_of_memory` where not even an otherwise empty device has room.
        """
        if model not in self:
            self._bring(model)
        self._uses += 1
        held = self._held[model.id]
        held.last_used = self._uses
        return held.pipeline

    def make_room_for(self, model: Model) -> bool:
        """Have another model give way, although the budget would do; False where there is none."""
        held = self._held.get(model.id)
        return self._make_room(model, held.weights if held else [])

    def release_memory(self) -> None:
        """Give back what nothing refers to any more, so that other processes and larger blocks can have it."""
        gc.collect()
        self._empty_cache()

    def _empty_cache(self) -> None:
        if self._loader.device.type == "cuda":
            torch.cuda.empty_cache()

    def _bring(self, model: Model) -> None:
        """Bring the model to the device, from host memory if it is there, else from disk."""
        started = time.perf_counter()
        held = self._held.get(model.id)
        shared = {} if held else self._shareable(model)
        needed = held.weights if held else self._weights_of(_networks(shared))
        missing = sum(weights.nbytes for weights in needed if not weights.on_device)
        if not held:
            missing += self._loader.weights_bytes(model, shared)
        self._fit_budget(model, needed, missing)
        while not (arrived := self._arrive(held) if held else self._load(model, shared, needed)):
            self.release_memory()
            if not self._make_room(model, needed):
                raise JobFailure("out_of_memory", f"The device has no room for {model.id}; it needs a larger one.")
        arrived.on_device = True
        self._held[model.id] = arrived
        # Files that were not there to be measured, and adapters, may take more than was made room for.
        self._fit_budget(model, arrived.weights, 0)
        source = "host" if held else "disk"
        metrics.MODEL_LOAD_SECONDS.labels(model.id, source).observe(time.perf_counter() - started)
        self._report()
        log.info("%s is on the device, from %s", model.id, source)

    def _arrive(self, held: _Held) -> _Held | None:
        """Copy what is away to the device; None where it has no room."""
        try:
            for weights in held.weights:
                weights.to_device()
            return held
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        return None

    def _load(self, model: Model, shared: Mapping[str, Any], theirs: Collection[Weights]) -> _Held | None:
        """Load the model from disk, all but the shared parts with their weights; None where the device has no room."""
        try:
            pipeline = self._loader.pipeline(model, family_of(model).loading_class, shared)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return None
        known = {weights.network: weights for weights in theirs}
        parts = _networks(pipeline.components)
        own = [known.get(part) or Weights(part, self._loader.device) for part in parts]
        return self._arrive(_Held(model, pipeline, own))

    def _fit_budget(self, model: Model, needed: Collection[Weights], missing: int) -> None:
        """Have models give way until so many bytes of the device's budget are free, or none is left but `model`."""
        while (excess := self.device_bytes + missing - self._device_budget) > 0:
            if not self._evict(model, needed, excess):
                return

    def _make_room(self, model: Model, needed: Collection[Weights]) -> bool:
        """Free some memory for the model, which needs these weights of others; False where there is none to free."""
        if self._evict(model, needed, math.inf):
            return True
        # The memory of a CPU is the host's: there, moving has freed none, and what has moved has to go.
        return self._loader.device.type == "cpu" and self._drop_from_host(model)

    def _evict(self, model: Model, needed: Collection[Weights], excess: float) -> bool:
        """Have the model give way that is the best choice for so many bytes; False where there is none but `model`."""
        candidates = [
            self._candidate(held, needed)
            for held in self._held.values()
            if held.on_device and held.model.id != model.id
        ]
        if not candidates:
            return False
        choice = first_to_go(candidates, excess)
        gone = choice.model_id
        self._held[gone].on_device = False
        if not choice.kept:
            del self._held[gone]
        self._clear_device(model, needed)
        to = "host" if gone in self._held else "nowhere"
        if to == "nowhere":
            # Nothing here refers to it any more, but its own parts may refer to each other.
            self.release_memory()
        else:
            self._empty_cache()
        metrics.MODEL_EVICTIONS.labels(gone, to).inc()
        self._report()
        log.warning("%s gives way to %s, to %s", gone, model.id, to)
        return True

    def _candidate(self, held: _Held, needed: Collection[Weights]) -> Candidate:
        used = self._used_on_device(needed, besides=held)
        leaving = [weights for weights in held.weights if weights not in used]
        return Candidate(
            held.model.id,
            idle=self._uses + 1 - held.last_used,
            frees=sum(weights.nbytes for weights in leaving),
            kept=sum(weights.host_nbytes for weights in leaving) <= self._host_budget,
        )

    def _clear_device(self, model: Model, needed: Collection[Weights]) -> None:
        """Move what no model on the device uses to host memory; as far as its budget goes, drop what is in the way."""
        while leaving := self._unused_on_device(needed):
            if self.host_bytes + sum(weights.host_nbytes for weights in leaving) > self._host_budget:
                if not self._drop_from_host(model):
                    return
                continue
            try:
                for weights in leaving:
                    weights.to_host()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                log.warning("the host has less memory to give than its budget: %s", error)
                if not self._drop_from_host(model):
                    return

    def _drop_from_host(self, model: Model) -> bool:
        """Forget the model in host memory that was longest without use, but not `model`; False where there is none."""
        away = [held for held in self._held.values() if not held.on_device and held.model.id != model.id]
        if not away:
            return False
        oldest = min(away, key=lambda held: held.last_used)
        log.info("%s leaves the host's memory", oldest.model.id)
        del self._held[oldest.model.id]
        return True

    def _unused_on_device(self, needed: Collection[Weights]) -> list[Weights]:
        used = self._used_on_device(needed)
        return [weights for weights in self._all_weights() if weights.on_device and weights not in used]

    def _used_on_device(self, needed: Collection[Weights], besides: _Held | None = None) -> set[Weights]:
        """The weights of the models on the device, and those needed by one on its way there."""
        return set(needed).union(
            *(held.weights for held in self._held.values() if held.on_device and held is not besides)
        )

    def _weights_of(self, networks: Collection[nn.Module]) -> list[Weights]:
        return [weights for weights in self._all_weights() if weights.network in networks]

    def _all_weights(self) -> dict[Weights, None]:
        """Those of all models, each once."""
        return dict.fromkeys(weights for held in self._held.values() for weights in held.weights)

    def _report(self) -> None:
        metrics.WEIGHTS_BYTES.labels("device").set(self.device_bytes)
        metrics.WEIGHTS_BYTES.labels("host").set(self.host_bytes)

    def _shareable(self, model: Model) -> dict[str, Any]:
        """Parts that are in memory already: all of the same source, and the networks that another has the same of."""
        parts: dict[str, Any] = {}
        for held in self._held.values():
            other = held.model
            if other.dtype != model.dtype:
                continue
            loaded = {name: part for name, part in held.pipeline.components.items() if part is not None}
            if (other.source, other.revision) == (model.source, model.revision):
                # What either has from elsewhere, or changes in another way, is not its source's.
                own = {"vae"} if other.vae != model.vae else set()
                if _denoiser_of(other) != _denoiser_of(model):
                    own |= _DENOISERS
                parts |= {name: part for name, part in loaded.items() if name not in own}
            else:
                shared = [name for name in _OFTEN_SHARED if name in loaded and name not in parts]
                parts |= {name: loaded[name] for name in shared if self._loader.have_same(name, model, other)}
        return parts


def _networks(parts: Mapping[str, Any]) -> list[nn.Module]:
    return [part for part in parts.values() if isinstance(part, nn.Module)]


def _denoiser_of(model: Model) -> tuple[Any, ...]:
    """What decides, of two models of one source, whether their denoisers are the same."""
    return model.unet, model.quantize, model.step_cache, model.compile

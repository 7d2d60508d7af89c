"""The engine: a batch of items goes in, their pictures come out.

A picture depends on its own item alone. Every image has a generator of its own, on the CPU, where the numbers drawn
do not depend on the device; nothing in a pipeline mixes the images of a batch.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Any

import PIL.Image
import torch

from shared.acceleration import Compile
from shared.catalog import Catalog
from shared.errors import JobFailure
from shared.models import Mode, Model
from shared.requests import RenderRequest, resolve
from shared.settings import Settings
from worker.engine.adapters import Adapters
from worker.engine.checkpoints import Loader
from worker.engine.families import family_of
from worker.engine.items import Item, OnStep, Rendered
from worker.engine.memory import is_device_lost, is_out_of_memory, share_heaps
from worker.engine.pictures import pictures_of
from worker.engine.provenance import provenance
from worker.engine.residency import Residency
from worker.engine.savings import Savings
from worker.engine.step_caching import fresh_step_cache
from worker.engine.texts import TextCache
from worker.engine.truncation import truncation_warnings

log = logging.getLogger(__name__)

#: CUDA graphs are recorded at the second evaluation of a shape, and replayed from the third.
_WARM_UP_STEPS = 3


class Engine:
    """Renders on one device, one call at a time; other threads wait."""

    def __init__(self, catalog: Catalog, settings: Settings, device: str | None = None) -> None:
        """`device` is torch's name for it; by default CUDA where there is one, else the CPU."""
        share_heaps()
        self._catalog = catalog
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._loader = Loader(settings, self._device)
        self._residency = Residency(self._loader)
        self._adapters = Adapters(self._loader)
        self._texts = TextCache(settings.text_cache_bytes)
        self._lock = Lock()
        self._savings = Savings()
        self._device_lost = False

    @property
    def device_name(self) -> str:
        """The GPU's own name, or `cpu`."""
        return torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else self._device.type

    @property
    def resident(self) -> list[str]:
        """The ids of the models on the device."""
        return self._residency.model_ids

    @property
    def device_lost(self) -> bool:
        """Whether the device failed for good: every further call of this process fails; it has to start again."""
        return self._device_lost

    def load(self, model_id: str) -> float:
        """Load a model and keep it, compiled where its entry says so; the seconds that took.

        Raises JobFailure `model_unavailable`.
        """
        model = self._catalog.find(model_id)
        with self._lock:
            started = time.perf_counter()
            if not self._load(model):
                return 0.0
            if model.compile is not Compile.OFF:
                self._warm_up(model)
            return time.perf_counter() - started

    def render(self, model: Model, items: Sequence[Item], on_step: OnStep) -> Rendered:
        """Render the items, at most the model's batch limit at once, loading the model if need be.

        Raises JobFailure with a code of `FAILURES`; unless `device_lost`, the engine can go on with the next call.
        """
        with self._lock:
            load_s = self._load(model)
            started = time.perf_counter()
            try:
                images = self._render(model, items, on_step)
            except _InterruptedError:
                return Rendered([], load_s, time.perf_counter() - started, interrupted=True)
            record = provenance(self._loader, self.device_name, model, items[0].request.loras)
            warnings = self._warnings(model, items)
            render_s = time.perf_counter() - started
            return Rendered(images, load_s, render_s, interrupted=False, warnings=warnings, provenance=record)

    def _warm_up(self, model: Model) -> None:
        """Render once at the default size, a full batch and one image, for networks compile with their first shapes."""
        mode = model.modes[0]
        steps = min(max(model.num_steps.min, _WARM_UP_STEPS), model.num_steps.max)
        body: dict[str, Any] = {"model": model.id, "prompt": model.name, "num_steps": steps}
        blank = PIL.Image.new("RGB", (model.size.default, model.size.default), "white")
        image = None if mode is Mode.TEXT_TO_IMAGE else blank
        mask = blank.convert("L") if mode is Mode.INPAINTING else None
        images = {"input_image": image and mode.value, "mask_image": mask and mode.value}
        request, _ = resolve(Catalog([model]), body | images)
        for count in (model.batch_limit, 1):
            self._render(model, [Item(request, seed, image, mask) for seed in range(count)], lambda *_: False)

    def _warnings(self, model: Model, items: Sequence[Item]) -> dict[RenderRequest, list[str]]:
        tokenizer, limit = family_of(model).reader(self._residency.get(model), model)
        requests = {item.request for item in items}
        return {request: truncation_warnings(tokenizer, limit, model, request) for request in requests}

    def _load(self, model: Model) -> float:
        if model in self._residency:
            return 0.0
        started = time.perf_counter()
        self._residency.get(model)
        return time.perf_counter() - started

    def _render(self, model: Model, items: Sequence[Item], on_step: OnStep) -> list[PIL.Image.Image]:
        images: list[PIL.Image.Image] = []
        chunks_done = 0
        room = self._making_room(model, items[0].request)
        while waiting := items[len(images) :]:
            size = self._savings.batch_size(model, waiting[0].request)
            progress = _Progress(on_step, chunks_done, chunks_done + math.ceil(len(waiting) / size))
            chunk = self._render_chunk(model, waiting[:size], progress)
            if chunk is None:
                self._savings.save_more(model, waiting[0].request, len(waiting[:size]), room)
            else:
                images += chunk
                chunks_done += 1
        return images

    def _making_room(self, model: Model, request: RenderRequest) -> Iterator[bool]:
        """Give up what is dispensable, the cheapest first; a step at each turn."""
        if self._texts.clear():
            yield True
        if self._adapters.drop_idle(self._residency.get(model), model, request.loras):
            yield True
        while self._residency.make_room_for(model):
            yield True

    def _render_chunk(self, model: Model, items: Sequence[Item], progress: _Progress) -> list[PIL.Image.Image] | None:
        """The pictures of one denoising batch; None where memory ran out."""
        try:
            loaded = self._residency.get(model)
            self._adapters.use(loaded, model, items[0].request.loras)
            with torch.inference_mode(), fresh_step_cache(loaded):
                family = family_of(model)
                pipeline = family.view(loaded, model, items[0].request)
                self._savings.apply(pipeline.vae, model, items[0].request)
                output = pipeline(
                    **family.arguments(pipeline, model, items, self._texts),
                    num_inference_steps=items[0].request.num_steps,
                    generator=[torch.Generator("cpu").manual_seed(item.seed) for item in items],
                    callback_on_step_end=progress,
                    callback_on_step_end_tensor_inputs=[],
                    output_type="pt",
                )
                images = pictures_of(output.images)
                if len(images) != len(items):
                    raise JobFailure("render_failed", f"{len(images)} pictures came out for {len(items)} asked for.")
                return images
        except (JobFailure, _InterruptedError):
            raise
        except Exception as error:
            failure = None if is_out_of_memory(error) else self._failure_of(model, error)
        # Only here, where the exception is gone and with it the frames that hold tensors, can memory be given back.
        self._residency.release_memory()
        if failure:
            raise failure
        return None

    def _failure_of(self, model: Model, error: Exception) -> JobFailure:
        log.error("%s failed", model.id, exc_info=error)
        if is_device_lost(error):
            self._device_lost = True
            return JobFailure("worker_lost", "The device stopped answering; its worker starts again.")
        return JobFailure("render_failed", f"{type(error).__name__}: {error}")


class _InterruptedError(Exception):
    """The caller asked to stop. Leaving by exception spares the decoding of a picture nobody wants."""


class _Progress:
    """A pipeline's callback after each step of one chunk, counted over all chunks of the call."""

    def __init__(self, on_step: OnStep, chunk: int, chunks: int) -> None:
        self._on_step = on_step
        self._chunk = chunk
        self._chunks = chunks

    def __call__(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        # Fewer than the request's where the strength leaves some out.
        steps = pipeline.num_timesteps
        if self._on_step(self._chunk * steps + step + 1, self._chunks * steps):
            raise _InterruptedError
        return tensors

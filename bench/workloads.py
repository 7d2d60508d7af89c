"""What the GPU benchmark renders, and how one renders it with diffusers alone."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageDraw
import torch
from diffusers import (
    EulerDiscreteScheduler,
    FluxFillPipeline,
    FluxPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file

from shared.catalog import Catalog
from shared.models import Mode, Model
from shared.requests import RenderRequest, resolve
from worker.engine import Item

PROMPT = "a photo of an astronaut riding a horse on the moon, golden hour, high detail"

#: One picture, by the loop that a reader of the model's own page would write.
Plain = Callable[[torch.Generator], PIL.Image.Image]


@dataclass(frozen=True, slots=True)
class Workload:
    """One model at its catalog's defaults, at one size."""

    name: str
    model_id: str
    #: Pixels of a side.
    side: int
    num_steps: int | None = None

    def model(self, catalog: Catalog) -> Model:
        return catalog.models[self.model_id]

    def sources(self, catalog: Catalog) -> set[str]:
        """What it needs on disk, as the catalog names it."""
        model = self.model(catalog)
        return {model.source} | ({model.unet.source} if model.unet else set())

    def request(self, catalog: Catalog) -> RenderRequest:
        body = self._body(catalog)
        return resolve(catalog, body)[0]

    def items(self, catalog: Catalog, count: int) -> list[Item]:
        """Images with a seed and, but for the first, a prompt of their own: none is spared its text encoding."""
        request = self.request(catalog)
        image, mask = self._pictures() if request.mode is Mode.INPAINTING else (None, None)
        prompts = [PROMPT, *(f"{PROMPT}, {seed}" for seed in range(1, count))]
        return [Item(replace(request, prompt=prompt), seed, image, mask) for seed, prompt in enumerate(prompts)]

    def job(self, catalog: Catalog) -> dict[str, Any]:
        """A job body for the farm's API, without a seed."""
        body = self._body(catalog)
        return {name: _base64(value) if isinstance(value, PIL.Image.Image) else value for name, value in body.items()}

    def _body(self, catalog: Catalog) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.model_id, "prompt": PROMPT, "width": self.side, "height": self.side}
        if self.num_steps is not None:
            body["num_steps"] = self.num_steps
        if Mode.INPAINTING in self.model(catalog).modes:
            body["input_image"], body["mask_image"] = self._pictures()
        return body

    def _pictures(self) -> tuple[PIL.Image.Image, PIL.Image.Image]:
        image = PIL.Image.radial_gradient("L").resize((self.side, self.side)).convert("RGB")
        mask = PIL.Image.new("L", image.size, 0)
        PIL.ImageDraw.Draw(mask).rectangle((0, 0, self.side // 2, self.side), fill=255)
        return image, mask

    def plain(self, catalog: Catalog, models_dir: Path, device: str, dtype: torch.dtype) -> Plain:
        """The same picture by diffusers alone, with a pipeline of its own."""
        model, request = self.model(catalog), self.request(catalog)
        arguments: dict[str, Any] = {
            "prompt": PROMPT,
            "width": request.width,
            "height": request.height,
            "num_inference_steps": request.num_steps,
            "guidance_scale": request.guidance_scale,
        }
        if model.family != "sdxl":
            arguments["max_sequence_length"] = model.max_prompt_tokens
        if request.mode is Mode.INPAINTING:
            arguments["image"], arguments["mask_image"] = self._pictures()
        pipeline = _plain_pipeline(model, models_dir, dtype).to(device)
        pipeline.set_progress_bar_config(disable=True)
        return lambda generator: pipeline(generator=generator, **arguments).images[0]


#: Every model of the shipped catalog as it is meant to run.
FULL = (
    Workload("lightning", "ByteDance/SDXL-Lightning", 1024),
    Workload("schnell", "black-forest-labs/FLUX.1-schnell", 1024),
    Workload("base", "stabilityai/stable-diffusion-xl-base-1.0", 1024),
    Workload("fill", "black-forest-labs/FLUX.1-Fill-dev", 1024),
)
#: The same with tiny checkpoints.
TINY = tuple(replace(workload, side=256, num_steps=4) for workload in FULL)


def _plain_pipeline(model: Model, models_dir: Path, dtype: torch.dtype) -> Any:
    classes = {"sdxl": StableDiffusionXLPipeline, "flux": FluxPipeline, "flux-fill": FluxFillPipeline}
    folder = models_dir / model.source
    parts = {}
    if model.unet:
        config = UNet2DConditionModel.load_config(folder, subfolder="unet")
        parts["unet"] = UNet2DConditionModel.from_config(config).to(dtype)
        parts["unet"].load_state_dict(load_file(models_dir / model.unet.source / model.unet.file))
    pipeline = classes[model.family].from_pretrained(folder, dtype=dtype, use_safetensors=True, **parts)
    if model.scheduler.timestep_spacing:
        pipeline.scheduler = EulerDiscreteScheduler.from_config(
            pipeline.scheduler.config, timestep_spacing=model.scheduler.timestep_spacing
        )
    return pipeline


def _base64(image: PIL.Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()

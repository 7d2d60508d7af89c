"""What each family's pipelines are and what they take.

A family says which pipeline class loads its folder, which class renders which mode, and how a batch of items
becomes that pipeline's arguments. Pipelines are views: all of a model's share one set of components.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from diffusers import (
    DiffusionPipeline,
    FluxFillPipeline,
    FluxImg2ImgPipeline,
    FluxPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)

from shared.errors import JobFailure
from shared.models import GuidanceKind, Mode, Model
from shared.requests import RenderRequest
from worker.engine.items import Item
from worker.engine.pictures import fitted, fitted_mask
from worker.engine.schedulers import DIFFUSION, FLOW, Schedulers, scheduler_for
from worker.engine.texts import Encoding, TextCache


class Arguments(Protocol):
    """Turns a batch into a pipeline's own arguments, beyond those that all pipelines share."""

    def __call__(
        self, pipeline: DiffusionPipeline, model: Model, items: Sequence[Item], texts: TextCache
    ) -> dict[str, Any]: ...


Reader = Callable[[DiffusionPipeline, Model], tuple[Any, int]]


@dataclass(frozen=True, slots=True)
class Family:
    #: By mode, the class that renders it; the first one loads the folder.
    pipelines: Mapping[Mode, type[DiffusionPipeline]]
    arguments: Arguments
    schedulers: Schedulers
    #: The tokenizer of the encoder that reads prompts word by word, and how many tokens that reads.
    reader: Reader
    #: What a family's constructor takes besides components.
    options: Mapping[str, Any]

    @property
    def loading_class(self) -> type[DiffusionPipeline]:
        return next(iter(self.pipelines.values()))

    def view(self, loaded: DiffusionPipeline, model: Model, request: RenderRequest) -> DiffusionPipeline:
        """A pipeline for one call: the loaded components, and a scheduler of its own, which the call will change.

        Raises JobFailure `unsupported` for a mode or a scheduler that the family does not have.
        """
        mode = request.mode
        if mode not in self.pipelines:
            raise JobFailure("unsupported", f"{model.id} does {' and '.join(self.pipelines)}, not {mode}.")
        scheduler = scheduler_for(self.schedulers, model, request, loaded.scheduler.config)
        pipeline = self.pipelines[mode](**{**loaded.components, "scheduler": scheduler}, **self.options)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def family_of(model: Model) -> Family:
    """Raises JobFailure `unsupported` for a family this engine does not know."""
    if model.family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise JobFailure("unsupported", f"The catalog's family {model.family!r} is unknown here; known are {known}.")
    return FAMILIES[model.family]


def _encode_sdxl(pipeline: DiffusionPipeline, model: Model, texts: Sequence[str]) -> Encoding:  # noqa: ARG001
    tokens, _, whole, _ = pipeline.encode_prompt(list(texts), do_classifier_free_guidance=False)
    return tokens, whole


def _sdxl(pipeline: DiffusionPipeline, model: Model, items: Sequence[Item], texts: TextCache) -> dict[str, Any]:
    first = items[0].request
    guided = first.guidance_scale > 1
    prompts = [item.request.prompt for item in items]
    negatives = [item.request.negative_prompt or "" for item in items]
    if not guided and any(negatives):
        raise JobFailure(
            "unsupported", f"A negative_prompt has no effect on {model.id} unless guidance_scale is above 1."
        )
    known = texts.encodings(pipeline, model, first.loras, [*prompts, *(negatives if guided else [])], _encode_sdxl)
    arguments: dict[str, Any] = {"guidance_scale": first.guidance_scale}
    arguments["prompt_embeds"], arguments["pooled_prompt_embeds"] = _stacked(known, prompts)
    if guided:
        tokens, whole = _stacked(known, negatives)
        if pipeline.config.force_zeros_for_empty_prompt:
            # The pipeline zeroes the embedding of an absent negative prompt only when the whole batch has none. Done
            # here by image, a picture is the same whatever its neighbours' negative prompts.
            absent = torch.tensor([not negative for negative in negatives], device=tokens.device)
            tokens = tokens.masked_fill(absent[:, None, None], 0)
            whole = whole.masked_fill(absent[:, None], 0)
        arguments |= {"negative_prompt_embeds": tokens, "negative_pooled_prompt_embeds": whole}
    if first.mode is Mode.IMAGE_TO_IMAGE:
        return arguments | {"image": _input_images(items), "strength": _sdxl_strength(first.strength, first.num_steps)}
    return arguments | {"width": first.width, "height": first.height}


def _sdxl_strength(strength: float | None, num_steps: int) -> float:
    """The strength, raised so far that one step is left: the pipeline rounds the number of steps down, even to none."""
    assert strength is not None
    # A millionth more, for a step count of 49 times 1/49 is less than one in floating point; but never more than all.
    return strength if int(num_steps * strength) >= 1 else min(1.0, (1 + 1e-6) / num_steps)


def _encode_flux(pipeline: DiffusionPipeline, model: Model, texts: Sequence[str]) -> Encoding:
    tokens, whole, _ = pipeline.encode_prompt(list(texts), max_sequence_length=model.max_prompt_tokens)
    return tokens, whole


def _flux(pipeline: DiffusionPipeline, model: Model, items: Sequence[Item], texts: TextCache) -> dict[str, Any]:
    first = items[0].request
    prompts = [item.request.prompt for item in items]
    negatives = [item.request.negative_prompt or "" for item in items]
    embedded = model.guidance.kind is GuidanceKind.EMBEDDED
    guided = not embedded and first.guidance_scale > 1
    if any(negatives) and not guided:
        raise JobFailure("unsupported", f"{model.id} cannot follow a negative_prompt at this guidance_scale.")
    known = texts.encodings(pipeline, model, first.loras, [*prompts, *(negatives if guided else [])], _encode_flux)
    arguments: dict[str, Any] = {"width": first.width, "height": first.height}
    arguments["prompt_embeds"], arguments["pooled_prompt_embeds"] = _stacked(known, prompts)
    if embedded:
        arguments["guidance_scale"] = first.guidance_scale
    elif guided:
        tokens, whole = _stacked(known, negatives)
        arguments |= {"negative_prompt_embeds": tokens, "negative_pooled_prompt_embeds": whole}
        arguments["true_cfg_scale"] = first.guidance_scale
    if first.mode is not Mode.TEXT_TO_IMAGE:
        arguments |= {"image": _input_images(items), "strength": _flux_strength(first.strength)}
    if first.mode is Mode.INPAINTING:
        arguments["mask_image"] = _mask_images(items)
    return arguments


def _sdxl_reader(pipeline: DiffusionPipeline, model: Model) -> tuple[Any, int]:  # noqa: ARG001
    return pipeline.tokenizer, pipeline.tokenizer.model_max_length


def _flux_reader(pipeline: DiffusionPipeline, model: Model) -> tuple[Any, int]:
    # CLIP makes a summary of a prompt, of its first 77 tokens alone; what a picture shows is for T5 to say.
    return pipeline.tokenizer_2, model.max_prompt_tokens


def _stacked(known: Mapping[str, Encoding], texts: Sequence[str]) -> Encoding:
    """The encodings of a batch, one for each image."""
    return torch.stack([known[text][0] for text in texts]), torch.stack([known[text][1] for text in texts])


def _flux_strength(strength: float | None) -> float:
    """The strength, raised so far that one step is left: the pipelines round the number of steps up, but zero stays."""
    assert strength is not None
    return max(strength, 1e-6)


def _input_images(items: Sequence[Item]) -> list[Any]:
    return [fitted(_present(item.input_image), item.request.width, item.request.height) for item in items]


def _mask_images(items: Sequence[Item]) -> list[Any]:
    return [
        fitted_mask(_present(item.mask_image), _present(item.input_image), item.request.width, item.request.height)
        for item in items
    ]


def _present(image: Any) -> Any:
    if image is None:
        raise JobFailure("invalid_input", "The request's input image or mask is missing; submit the job again.")
    return image


FAMILIES: Mapping[str, Family] = {
    "sdxl": Family(
        {Mode.TEXT_TO_IMAGE: StableDiffusionXLPipeline, Mode.IMAGE_TO_IMAGE: StableDiffusionXLImg2ImgPipeline},
        _sdxl,
        DIFFUSION,
        _sdxl_reader,
        # An invisible watermark would be added where the library for it happens to be installed.
        {"add_watermarker": False},
    ),
    "flux": Family(
        {Mode.TEXT_TO_IMAGE: FluxPipeline, Mode.IMAGE_TO_IMAGE: FluxImg2ImgPipeline}, _flux, FLOW, _flux_reader, {}
    ),
    "flux-fill": Family({Mode.INPAINTING: FluxFillPipeline}, _flux, FLOW, _flux_reader, {}),
}

"""What a picture costs at least: multiplications counted, over what the device multiplies at best.

Counted by torch on tensors without data, from the real architectures: text encoders, one evaluation of the denoiser,
the decoder. Attention is counted in full. Input images are encoded for nothing here, so the floor is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from shared.models import GuidanceKind, Model
from shared.requests import RenderRequest
from worker.engine.architectures import FLUX_FILL, FLUX_SCHNELL, SDXL, Architecture
from worker.engine.tiny_recipes import TINY_FILL, TINY_SCHNELL, TINY_SDXL

#: By family, the real architecture and the tiny one.
ARCHITECTURES: Mapping[str, tuple[Architecture, Architecture]] = {
    "sdxl": (SDXL, TINY_SDXL),
    "flux": (FLUX_SCHNELL, TINY_SCHNELL),
    "flux-fill": (FLUX_FILL, TINY_FILL),
}
#: Tokens of CLIP, whose prompts are always padded.
_CLIP_TOKENS = 77
#: Pixels that one latent stands for, in each direction.
_VAE_SCALE = 8
#: Operations in which linear layers end up; float8 speeds up those of the denoiser alone.
_LINEAR = frozenset({"mm", "addmm"})


@dataclass(frozen=True, slots=True)
class Cost:
    """FLOPs of one picture, by stage, and the bytes of weights that each stage reads at each evaluation."""

    text: float
    denoiser: float
    #: Of `denoiser`, in linear layers.
    denoiser_linear: float
    decoder: float
    evaluations: int
    #: Of one evaluation of each stage, in bytes of bfloat16.
    text_bytes: float
    denoiser_bytes: float
    decoder_bytes: float

    @property
    def total(self) -> float:
        return self.text + self.evaluations * self.denoiser + self.decoder

    def floor_s(self, batch: int, flops: float, copied: float, float8: float | None = None) -> float:
        """Seconds of one picture of a batch: each stage multiplies at best, or waits for its weights.

        `float8` is the rate for the denoiser's linear layers, where they multiply in it.
        """
        rest = self.denoiser - self.denoiser_linear
        denoiser = (self.denoiser_linear / float8 + rest / flops) if float8 else self.denoiser / flops
        return (
            max(self.text / flops, self.text_bytes / copied / batch)
            + self.evaluations * max(denoiser, self.denoiser_bytes / copied / batch)
            + max(self.decoder / flops, self.decoder_bytes / copied / batch)
        )


def cost_of(model: Model, request: RenderRequest, *, tiny: bool) -> Cost:
    """What one picture of the request costs."""
    parts = ARCHITECTURES[model.family][tiny].parts
    with torch.device("meta"):
        networks = {name: part.make().bfloat16() for name, part in parts.items()}
        texts = {name: network for name, network in networks.items() if name.startswith("text_encoder")}
        text = sum(_count(network, **_prompt(name, model))[0] for name, network in texts.items())
        if model.family == "sdxl":
            denoiser, inputs = networks["unet"], _unet_inputs(networks, request)
        else:
            denoiser, inputs = networks["transformer"], _transformer_inputs(networks["transformer"], model, request)
        evaluation, linear = _count(denoiser, **inputs)
        vae = networks["vae"]
        decoder, _ = _count(vae.decoder, _latents(vae.config.latent_channels, request))  # type: ignore[union-attr, arg-type]
    guided = model.guidance.kind is GuidanceKind.CLASSIFIER_FREE and request.guidance_scale > 1
    return Cost(
        text=text * (2 if guided else 1),
        denoiser=evaluation,
        denoiser_linear=linear,
        decoder=decoder,
        evaluations=request.num_steps * (2 if guided else 1),
        text_bytes=sum(map(_bytes, texts.values())),
        denoiser_bytes=_bytes(denoiser) / (2 if guided else 1),
        decoder_bytes=_bytes(vae.decoder),  # type: ignore[arg-type]
    )


def _count(network: nn.Module, *args: Any, **kwargs: Any) -> tuple[float, float]:
    """FLOPs of one call, and those of them in linear layers."""
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        network(*args, **kwargs)
    by_operation = counter.get_flop_counts()["Global"]
    linear = sum(flops for operation, flops in by_operation.items() if operation.__name__ in _LINEAR)
    return float(counter.get_total_flops()), float(linear)


def _prompt(name: str, model: Model) -> dict[str, Any]:
    is_t5 = name == "text_encoder_2" and model.family != "sdxl"
    return {"input_ids": torch.zeros(1, model.max_prompt_tokens if is_t5 else _CLIP_TOKENS, dtype=torch.long)}


def _latents(channels: int, request: RenderRequest) -> torch.Tensor:
    size = request.height // _VAE_SCALE, request.width // _VAE_SCALE
    return torch.zeros(1, channels, *size, dtype=torch.bfloat16)


def _unet_inputs(networks: Mapping[str, nn.Module], request: RenderRequest) -> dict[str, Any]:
    unet = networks["unet"].config
    pooled = networks["text_encoder_2"].config.projection_dim  # type: ignore[union-attr]
    return {
        "sample": _latents(unet.in_channels, request),  # type: ignore[union-attr, arg-type]
        "timestep": torch.zeros(1),
        "encoder_hidden_states": torch.zeros(1, _CLIP_TOKENS, unet.cross_attention_dim, dtype=torch.bfloat16),  # type: ignore[union-attr, arg-type]
        "added_cond_kwargs": {
            "text_embeds": torch.zeros(1, pooled, dtype=torch.bfloat16),  # type: ignore[arg-type]
            "time_ids": torch.zeros(1, 6, dtype=torch.bfloat16),
        },
    }


def _transformer_inputs(transformer: nn.Module, model: Model, request: RenderRequest) -> dict[str, Any]:
    config: Any = transformer.config
    # A token stands for two by two latents.
    tokens = request.height * request.width // (2 * _VAE_SCALE) ** 2
    return {
        "hidden_states": torch.zeros(1, tokens, config.in_channels, dtype=torch.bfloat16),
        "encoder_hidden_states": torch.zeros(
            1, model.max_prompt_tokens, config.joint_attention_dim, dtype=torch.bfloat16
        ),
        "pooled_projections": torch.zeros(1, config.pooled_projection_dim, dtype=torch.bfloat16),
        "timestep": torch.zeros(1),
        "img_ids": torch.zeros(tokens, 3),
        "txt_ids": torch.zeros(model.max_prompt_tokens, 3),
        "guidance": torch.zeros(1) if config.guidance_embeds else None,
    }


def _bytes(network: nn.Module) -> float:
    return float(sum(parameter.nbytes for parameter in network.parameters()))

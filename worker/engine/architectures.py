"""The architectures of the served families as data: the real sizes, by component.

From these the benchmarks make full-size models with random weights, and the tiny checkpoints are the same
architectures with smaller numbers. Values are those of the published checkpoints' own config files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel, UNet2DConditionModel
from diffusers.schedulers import EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel


@dataclass(frozen=True, slots=True)
class Part:
    """One network of a checkpoint: its class and the values of its config."""

    cls: type
    config: Mapping[str, Any]

    def with_config(self, **changes: Any) -> Part:
        return replace(self, config={**self.config, **changes})

    def make(self) -> nn.Module:
        """The network with its own random initialisation, where torch's default device and dtype say."""
        config_class = _TRANSFORMERS_CONFIGS.get(self.cls)
        network: nn.Module = (
            self.cls(config_class(**self.config)) if config_class else self.cls.from_config(dict(self.config))  # type: ignore[attr-defined]
        )
        return network.eval()


@dataclass(frozen=True, slots=True)
class Architecture:
    """What a checkpoint folder holds, tokenizers aside."""

    parts: Mapping[str, Part]
    scheduler: Part

    def with_configs(self, **changes: Mapping[str, Any]) -> Architecture:
        """The same architecture with some parts' configs changed, by part."""
        parts = {name: part.with_config(**changes.get(name, {})) for name, part in self.parts.items()}
        return replace(self, parts=parts)

    @property
    def parameters(self) -> dict[str, int]:
        """The number of parameters of each part, counted without allocating any."""
        with torch.device("meta"):
            return {name: sum(p.numel() for p in part.make().parameters()) for name, part in self.parts.items()}


_TRANSFORMERS_CONFIGS: dict[type, Any] = {
    CLIPTextModel: CLIPTextConfig,
    CLIPTextModelWithProjection: CLIPTextConfig,
    T5EncoderModel: T5Config,
}

_CLIP_L = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}
_CLIP_BIG_G = {
    **_CLIP_L,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
_T5_XXL = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_ff": 10240,
    "d_kv": 64,
    "num_heads": 64,
    "num_layers": 24,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
_VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "sample_size": 1024,
    "force_upcast": True,
}
_FLUX_TRANSFORMER = {
    "patch_size": 1,
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": False,
    "axes_dims_rope": (16, 56, 56),
}
_FLOW_EULER = {
    "num_train_timesteps": 1000,
    "shift": 1.0,
    "use_dynamic_shifting": False,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}

SDXL = Architecture(
    parts={
        "text_encoder": Part(CLIPTextModel, _CLIP_L),
        "text_encoder_2": Part(CLIPTextModelWithProjection, _CLIP_BIG_G),
        "unet": Part(
            UNet2DConditionModel,
            {
                "sample_size": 128,
                "in_channels": 4,
                "out_channels": 4,
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                "block_out_channels": (320, 640, 1280),
                "layers_per_block": 2,
                "transformer_layers_per_block": (1, 2, 10),
                "attention_head_dim": (5, 10, 20),
                "cross_attention_dim": 2048,
                "use_linear_projection": True,
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": 2816,
                "norm_num_groups": 32,
            },
        ),
        "vae": Part(AutoencoderKL, {**_VAE, "latent_channels": 4, "scaling_factor": 0.13025}),
    },
    scheduler=Part(
        EulerDiscreteScheduler,
        {
            "num_train_timesteps": 1000,
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "prediction_type": "epsilon",
            "timestep_spacing": "leading",
            "steps_offset": 1,
        },
    ),
)

FLUX_SCHNELL = Architecture(
    parts={
        "text_encoder": Part(CLIPTextModel, _CLIP_L),
        "text_encoder_2": Part(T5EncoderModel, _T5_XXL),
        "transformer": Part(FluxTransformer2DModel, _FLUX_TRANSFORMER),
        "vae": Part(
            AutoencoderKL,
            {
                **_VAE,
                "latent_channels": 16,
                "scaling_factor": 0.3611,
                "shift_factor": 0.1159,
                "use_quant_conv": False,
                "use_post_quant_conv": False,
            },
        ),
    },
    scheduler=Part(FlowMatchEulerDiscreteScheduler, _FLOW_EULER),
)

#: Its transformer sees the noise, the masked image (64 channels each) and the mask (256) side by side.
FLUX_FILL = replace(
    FLUX_SCHNELL.with_configs(transformer={"in_channels": 384, "out_channels": 64, "guidance_embeds": True}),
    scheduler=Part(FlowMatchEulerDiscreteScheduler, {**_FLOW_EULER, "shift": 3.0, "use_dynamic_shifting": True}),
)

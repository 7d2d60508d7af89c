"""What the tiny checkpoints are: the real architectures with small numbers and a fixed seed.

They know nothing of the world: their pictures are coloured clouds, but clouds that follow the prompt, the seed, the
input image and every parameter, as the tests want to see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch

from worker.engine.architectures import FLUX_FILL, FLUX_SCHNELL, SDXL
from worker.engine.random_weights import Recipe, write_checkpoint, write_single_file
from worker.engine.tiny_loras import write_lora
from worker.engine.tiny_weights import lay_in

LIGHTNING_FILE = "sdxl_lightning_4step_unet.safetensors"
LCM_LORA_FILE = "pytorch_lora_weights.safetensors"

_CLIP = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
_CLIP_2 = {**_CLIP, "hidden_size": 96, "intermediate_size": 192, "projection_dim": 96}
_T5 = {"d_model": 96, "d_ff": 192, "d_kv": 24, "num_heads": 4, "num_layers": 2}
#: Four levels, so that the latents are an eighth of the picture as in the real one; the attention over all of a
#: picture's latents, a third of the cost at 1024 × 1024, is left out.
_VAE = {
    "block_out_channels": (16, 16, 32, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "mid_block_add_attention": False,
}
_UNET = {
    "block_out_channels": (32, 64, 96),
    "layers_per_block": 1,
    "transformer_layers_per_block": (1, 1, 1),
    "attention_head_dim": (2, 4, 6),
    "cross_attention_dim": 160,
    "addition_time_embed_dim": 16,
    "projection_class_embeddings_input_dim": 96 + 6 * 16,
    "norm_num_groups": 8,
}
_TRANSFORMER = {
    "num_layers": 1,
    "num_single_layers": 2,
    "attention_head_dim": 24,
    "num_attention_heads": 4,
    "joint_attention_dim": 96,
    "pooled_projection_dim": 64,
    "axes_dims_rope": (8, 8, 8),
}


TINY_SDXL = SDXL.with_configs(text_encoder=_CLIP, text_encoder_2=_CLIP_2, unet=_UNET, vae=_VAE)
TINY_SCHNELL = FLUX_SCHNELL.with_configs(text_encoder=_CLIP, text_encoder_2=_T5, transformer=_TRANSFORMER, vae=_VAE)
TINY_FILL = FLUX_FILL.with_configs(text_encoder=_CLIP, text_encoder_2=_T5, transformer=_TRANSFORMER, vae=_VAE)

_BASE_RECIPE = Recipe(TINY_SDXL, "StableDiffusionXLPipeline", seed=1, tune=lay_in)
_LIGHTNING_RECIPE = Recipe(TINY_SDXL, "StableDiffusionXLPipeline", seed=2, tune=lay_in)
_SCHNELL_RECIPE = Recipe(TINY_SCHNELL, "FluxPipeline", seed=3, tune=lay_in)
# Of the same seed, for the real two have the same text encoders and autoencoder as well.
_FILL_RECIPE = Recipe(TINY_FILL, "FluxFillPipeline", seed=_SCHNELL_RECIPE.seed, max_prompt_tokens=512, tune=lay_in)


def _write_lightning(directory: Path) -> None:
    write_single_file(directory / LIGHTNING_FILE, "unet", _LIGHTNING_RECIPE, dtype=torch.float32)


def _write_lcm_lora(directory: Path) -> None:
    write_lora(directory / LCM_LORA_FILE, {"unet": TINY_SDXL.parts["unet"]}, seed=5)


#: By source, what writes a checkpoint into an empty folder.
WRITERS: Mapping[str, Callable[[Path], None]] = {
    "stabilityai/stable-diffusion-xl-base-1.0": partial(write_checkpoint, recipe=_BASE_RECIPE),
    "ByteDance/SDXL-Lightning": _write_lightning,
    "latent-consistency/lcm-lora-sdxl": _write_lcm_lora,
    "black-forest-labs/FLUX.1-schnell": partial(write_checkpoint, recipe=_SCHNELL_RECIPE),
    "black-forest-labs/FLUX.1-Fill-dev": partial(write_checkpoint, recipe=_FILL_RECIPE),
}

"""Full-size checkpoints with random weights, made on the device itself and written in the real folder format.

Speed does not depend on what the weights are, so a benchmark needs no download: the pictures are noise, the work is the
real one. Tokenizers are the tiny ones; their prompts are padded to the same lengths.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from worker.engine import tiny
from worker.engine.architectures import FLUX_FILL, FLUX_SCHNELL, SDXL
from worker.engine.random_weights import Recipe, write_checkpoint, write_single_file
from worker.engine.tiny_recipes import LIGHTNING_FILE

_SDXL_BASE, _SDXL_LIGHTNING, _, _SCHNELL, _FILL = tiny.SOURCES
_RECIPES: Mapping[str, Recipe] = {
    _SDXL_BASE: Recipe(SDXL, "StableDiffusionXLPipeline", seed=1),
    _SDXL_LIGHTNING: Recipe(SDXL, "StableDiffusionXLPipeline", seed=2),
    _SCHNELL: Recipe(FLUX_SCHNELL, "FluxPipeline", seed=3),
    _FILL: Recipe(FLUX_FILL, "FluxFillPipeline", seed=4, max_prompt_tokens=512),
}


def write(directory: Path, source: str, device: str) -> None:
    """Write the checkpoint of a source of the catalog to `<directory>/<source>`, in bfloat16, unless it is there."""
    target = directory / source
    if target.exists():
        return
    if source == _SDXL_LIGHTNING:
        write_single_file(target / LIGHTNING_FILE, "unet", _RECIPES[source], device=device, dtype=torch.bfloat16)
    else:
        write_checkpoint(target, _RECIPES[source], device=device, dtype=torch.bfloat16)

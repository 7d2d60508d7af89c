"""torch.compile, for the models whose catalog entry asks for it.

Networks are compiled in place, with the first call that has their shapes; so the pipelines know nothing of it. Where a
network cannot be compiled, as without a C compiler, it runs as it is, and the log says so.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from torch import nn

from shared.models import Compile

_DENOISERS = ("unet", "transformer")


def compile_networks(pipeline: DiffusionPipeline, how: Compile, cache: str) -> None:
    """Have the pipeline's networks compiled as the catalog says, but those that another model had compiled.

    Kernels are kept in the folder `cache`, where a worker that starts again finds them; in torch's own if it is empty.
    """
    if how is Compile.OFF:
        return
    if cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(cache).absolute())
    torch._dynamo.config.suppress_errors = True
    for name in _DENOISERS:
        denoiser = pipeline.components.get(name)
        if denoiser is None:
            continue
        if how is Compile.REGIONAL:
            denoiser.compile_repeated_blocks()
        else:
            _compile(denoiser)
    if how is Compile.FULL:
        _compile(pipeline.vae.decoder)


def _compile(network: nn.Module) -> None:
    if network._compiled_call_impl is None:
        network.compile()

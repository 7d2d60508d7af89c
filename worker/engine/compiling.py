"""torch.compile, for the models whose catalog entry asks for it.

Networks are compiled in place, with the first call that has their shapes; so the pipelines know nothing of it. Where a
network cannot be compiled, as without a C compiler, it runs as it is, and the log says so.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import nn
from torch.utils._pytree import tree_map_only

from shared.acceleration import Compile, StepCache
from worker.engine.quantization import repeated_blocks

_DENOISERS = ("unet", "transformer")


def compile_networks(pipeline: DiffusionPipeline, how: Compile, cache: str, step_cache: StepCache | None) -> None:
    """Have the pipeline's networks compiled as the catalog says, but those that another model had compiled.

    Kernels are kept in the folder `cache`, where a worker that starts again finds them; in torch's own if it is empty.
    A step cache is enabled afterwards.
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
        if how is not Compile.REGIONAL:
            _compile(denoiser, how)
        elif step_cache is None:
            denoiser.compile_repeated_blocks()
        elif not denoiser.is_cache_enabled:
            _compile_beneath_hooks(denoiser)
    if how is not Compile.REGIONAL:
        _compile(pipeline.vae.decoder, how)


def _compile(network: nn.Module, how: Compile) -> None:
    if network._compiled_call_impl is not None:
        return
    if how.records_graphs:
        network.compile(mode=how.value)
        _keep_outputs(network)
    else:
        network.compile()


def _compile_beneath_hooks(denoiser: nn.Module) -> None:
    """Compile what the blocks compute, and not the step cache's hooks around it, which decide anew at each step."""
    for block in repeated_blocks(denoiser):
        block.forward = torch.compile(block.forward)


def _keep_outputs(network: nn.Module) -> None:
    """A CUDA graph writes its output to the same place at every replay, and pipelines hold two at once: copies do."""
    replay: Any = network._compiled_call_impl

    def call(*args: Any, **kwargs: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        return tree_map_only(torch.Tensor, torch.clone, replay(*args, **kwargs))

    network._compiled_call_impl = call

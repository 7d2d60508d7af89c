"""Sparing denoising steps, for the models whose catalog entry asks for it. The techniques are diffusers' own.

What they keep from step to step belongs to one call of a pipeline: it is dropped before each, also where the last one
was interrupted, and after.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import DiffusionPipeline, FirstBlockCacheConfig, TaylorSeerCacheConfig
from diffusers.hooks import HookRegistry

from shared.acceleration import StepCache, StepCacheTechnique

#: Steps that are always evaluated in full: they lay a picture out, and the first extrapolation needs two of them.
_FIRST_STEPS = 3
#: The denoiser's only evaluation in a step. Some pipelines do not say which it is, so it is said for them.
_EVALUATION = "cond"


def enable_step_cache(pipeline: DiffusionPipeline, cache: StepCache | None) -> None:
    """Have the pipeline's transformer spare steps, unless it does already."""
    if cache is None or pipeline.transformer.is_cache_enabled:
        return
    if cache.technique is StepCacheTechnique.FIRST_BLOCK:
        config = FirstBlockCacheConfig(threshold=cache.threshold)
    else:
        config = TaylorSeerCacheConfig(
            cache_interval=cache.interval,
            disable_cache_before_step=_FIRST_STEPS,
            # The whole output is extrapolated, so all blocks are spared and little is kept.
            use_lite_mode=True,
            taylor_factors_dtype=torch.float32,
        )
    pipeline.transformer.enable_cache(config)


@contextmanager
def fresh_step_cache(pipeline: DiffusionPipeline) -> Iterator[None]:
    """For one call of the pipeline, a cache that knows nothing of another call."""
    transformer = pipeline.components.get("transformer")
    if transformer is None or not transformer.is_cache_enabled:
        yield
        return
    registry = HookRegistry.check_if_exists_or_initialize(transformer)
    registry.reset_stateful_hooks()
    try:
        with transformer.cache_context(_EVALUATION):
            yield
    finally:
        registry.reset_stateful_hooks()

"""The noise schedulers of a family, by the names that requests use.

Those that draw fresh noise at every step draw it from the generator of the image it is for, as the first noise is
drawn: so a picture is the same whatever shares its batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers

from shared.errors import JobFailure
from shared.models import Model
from shared.noise import NoiseSchedulerName
from shared.requests import RenderRequest

#: Steps of the schedule that LCM picks its own from; a schedule has to have as many as are asked for.
_LCM_STEPS = 50


@dataclass(frozen=True, slots=True)
class _Kind:
    """A class of diffusers, and what it takes besides the values of the model's own scheduler."""

    cls: type
    options: Mapping[str, Any] = field(default_factory=dict)


Schedulers = Mapping[NoiseSchedulerName, _Kind]

#: For models that predict the noise in a picture.
DIFFUSION: Schedulers = {
    NoiseSchedulerName.EULER: _Kind(diffusers.EulerDiscreteScheduler),
    NoiseSchedulerName.EULER_ANCESTRAL: _Kind(diffusers.EulerAncestralDiscreteScheduler),
    NoiseSchedulerName.DPMPP_2M_KARRAS: _Kind(diffusers.DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    NoiseSchedulerName.UNIPC: _Kind(diffusers.UniPCMultistepScheduler),
    NoiseSchedulerName.LCM: _Kind(diffusers.LCMScheduler),
}
#: For models that predict the way from noise to picture. Pipelines of input images ask more of a scheduler than the
#: others' flow variants can do.
FLOW: Schedulers = {NoiseSchedulerName.EULER: _Kind(diffusers.FlowMatchEulerDiscreteScheduler)}


def scheduler_for(kinds: Schedulers, model: Model, request: RenderRequest, config: Mapping[str, Any]) -> Any:
    """A scheduler for one call, with the values of `config`, that of the checkpoint's own scheduler.

    Raises JobFailure `unsupported` for one that the family does not have.
    """
    # A job accepted before requests named their scheduler wants the model's own.
    name = request.scheduler or model.scheduler.name
    if name is None or name not in kinds:
        known = " and ".join(kinds)
        raise JobFailure("unsupported", f"Models of the family {model.family} run with {known}, not with {name}.")
    kind = kinds[NoiseSchedulerName(name)]
    changes = dict(kind.options)
    if model.scheduler.timestep_spacing:
        changes["timestep_spacing"] = model.scheduler.timestep_spacing
    if name == NoiseSchedulerName.LCM:
        changes["original_inference_steps"] = max(_LCM_STEPS, request.num_steps)
    return kind.cls.from_config(config, **changes)  # type: ignore[attr-defined]

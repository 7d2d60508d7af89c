"""What goes into the engine and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import PIL.Image

from shared.requests import RenderRequest

#: Called after each denoising step with the steps done and the steps there are; True stops the rendering.
OnStep = Callable[[int, int], bool]


@dataclass(frozen=True, slots=True)
class Item:
    """One image of one job. All items of one call share the model and the lane."""

    #: Resolved: nothing is left to decide. A guidance scale of 0 means no guidance.
    request: RenderRequest
    #: Of this image: the request's seed plus the image's number in its job.
    seed: int
    #: RGB, of any size; the engine fits it to the request's size.
    input_image: PIL.Image.Image | None = None
    #: Greyscale; white is repainted.
    mask_image: PIL.Image.Image | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """The pictures of one call and the seconds they took."""

    #: In the order of the items; empty when interrupted.
    images: list[PIL.Image.Image]
    #: Spent loading in this call; 0 when the model was resident.
    load_s: float
    render_s: float
    interrupted: bool
    #: What of a request had no effect, in words.
    warnings: Mapping[RenderRequest, list[str]] = field(default_factory=dict)
    #: What made the pictures besides their requests; nothing where nothing was rendered.
    provenance: Mapping[str, Any] = field(default_factory=dict)

"""How a lane saves memory where the device has too little: what costs least first, and what was enough is remembered.

By lane, because that is what the memory of a batch depends on: its size above all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shared.errors import JobFailure
from shared.models import Model
from shared.requests import RenderRequest

log = logging.getLogger(__name__)

#: Side of a tile in pixels: it decodes in a quarter of the memory of 1024 × 1024.
_TILE = 512


@dataclass(slots=True)
class _Saved:
    """What one lane of one model has given up."""

    #: Images rendered at once.
    batch: int
    #: Pictures are decoded one by one.
    sliced: bool = False
    #: Each picture is decoded in tiles.
    tiled: bool = False


class Savings:
    """What each lane of each model has given up so far."""

    def __init__(self) -> None:
        self._saved: dict[tuple[str, str], _Saved] = {}

    def batch_size(self, model: Model, request: RenderRequest) -> int:
        """How many images of this lane to render at once."""
        return self._of(model, request).batch

    def apply(self, vae: Any, model: Model, request: RenderRequest) -> None:
        """Have the autoencoder, which models may share, decode as this lane needs it."""
        saved = self._of(model, request)
        vae.use_slicing = saved.sliced
        vae.use_tiling = saved.tiled
        if saved.tiled:
            vae.tile_sample_min_size = _TILE
            vae.tile_latent_min_size = _TILE // 2 ** (len(vae.config.block_out_channels) - 1)

    def save_more(self, model: Model, request: RenderRequest, images: int, room: Iterator[bool]) -> None:
        """After memory ran out with so many images at once: give up what costs least.

        Decoding one by one costs nothing, for pixels need more memory than latents. Smaller batches cost speed. Making
        room, a step with each True of `room`, costs loading. Tiles come last: their seams are blended, but each has
        norms of its own, so the picture is not quite what it would have been.

        Raises JobFailure `out_of_memory` where nothing is left.
        """
        saved = self._saved.setdefault((model.id, request.lane), self._of(model, request))
        if images > 1 and not saved.sliced:
            saved.sliced = True
            log.warning("%s: out of memory with %d images at once, decoding them one by one", model.id, images)
        elif images > 1:
            saved.batch = images // 2
            log.warning("%s: out of memory with %d images at once, halving", model.id, images)
        elif next(room, False):
            log.warning("%s: out of memory with one image, making room", model.id)
        elif not saved.tiled and max(request.width, request.height) > _TILE:
            saved.tiled = True
            log.warning("%s: out of memory with one image alone, decoding it in tiles", model.id)
        else:
            raise JobFailure("out_of_memory", "The device ran out of memory for one image. A smaller one needs less.")

    def _of(self, model: Model, request: RenderRequest) -> _Saved:
        return self._saved.get((model.id, request.lane)) or _Saved(model.batch_limit)

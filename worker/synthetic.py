"""The engine of the synthetic models: it sleeps for as long as a batch is to take, and makes a plain picture.

It stands for a GPU where none is to be had: farms are load-tested with it, and receivers of webhooks tried out. Like a
device it renders one batch at a time, reports every step and can be stopped at each. It needs no torch and no weights.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from threading import Lock

import PIL.Image

from shared.models import Model
from worker.engine import Item, OnStep, Rendered

#: Squares along a picture's side. Enough that no two seeds look alike, few enough to be drawn in no time.
_SQUARES = 8


class SyntheticEngine:
    """Renders by sleeping, one call at a time; other threads wait."""

    device_lost = False

    def __init__(self, models: Iterable[Model]) -> None:
        """`models` are all that it is to render. Those that take no time to load count as loaded."""
        self._load_s = {model.id: model.synthetic.load_s for model in models if model.synthetic is not None}
        #: The one that is loaded of those that take time.
        self._loaded: str | None = None
        self._lock = Lock()

    @property
    def device_name(self) -> str:
        return "synthetic"

    @property
    def resident(self) -> list[str]:
        return [id_ for id_, load_s in self._load_s.items() if load_s == 0 or id_ == self._loaded]

    def load(self, model_id: str) -> float:
        """Sleep as long as loading the model takes; no time where it is loaded."""
        with self._lock:
            return self._load(model_id)

    def render(self, model: Model, items: Sequence[Item], on_step: OnStep) -> Rendered:
        """Sleep through every step of every batch that the items make up, then paint their pictures."""
        assert model.synthetic is not None, "the catalog gives every model of the family its table"
        batches = -(-len(items) // model.batch_limit)
        steps = batches * items[0].request.num_steps
        step_s = batches * model.synthetic.batch_s / steps
        with self._lock:
            load_s = self._load(model.id)
            started = time.perf_counter()
            for step in range(1, steps + 1):
                # To a point in time, not for a time, lest the steps' own delays add up.
                time.sleep(max(0.0, started + step * step_s - time.perf_counter()))
                if on_step(step, steps):
                    return Rendered([], load_s, time.perf_counter() - started, interrupted=True)
            rendered_s = time.perf_counter() - started
        return Rendered([_picture(item) for item in items], load_s, rendered_s, interrupted=False)

    def _load(self, model_id: str) -> float:
        if model_id in self.resident:
            return 0.0
        load_s, self._loaded = self._load_s[model_id], None
        time.sleep(load_s)
        self._loaded = model_id
        return load_s


def _picture(item: Item) -> PIL.Image.Image:
    """Squares in colours that follow from the seed alone, at the size that was asked for."""
    colours = random.Random(item.seed).randbytes(3 * _SQUARES * _SQUARES)
    squares = PIL.Image.frombytes("RGB", (_SQUARES, _SQUARES), colours)
    return squares.resize((item.request.width, item.request.height), PIL.Image.Resampling.NEAREST)

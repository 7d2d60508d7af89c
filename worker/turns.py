"""Whose turn it is: in which order a worker asks for work of its models.

A worker goes round its models, a batch each, the one first that was served longest ago. Where they do not all fit on
the device, each batch would then wait for its model to be loaded. So a load that makes another model give way begins a
turn: until it ends, the models on the device go first, and the others only where these have no work.

A turn lasts so many times as long as the load took that loading stays a small part of the time, but never longer than
`RENDERMILL_AFFINITY_S`. When it is over, all models are asked in the order in which they were served last. So work of
one of m models waits for at most one turn of each other: (m - 1) x (load + turn + batch). Where all models fit, no
model gives way, and there are no turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from shared.models import Model
from worker.engine import Rendered

#: A turn is so many times as long as the load that began it: at most an eleventh of the time is then spent loading.
REPAID = 10


class Turns:
    """The models of one worker.

    One thread at a time prepares a batch and begins it, and one at a time renders; these two may be at it together.
    """

    def __init__(
        self,
        models: Iterable[Model],
        resident: Callable[[], Sequence[str]],
        longest_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`resident` tells the ids of the models on the device; no turn lasts longer than `longest_s`."""
        #: By id; the last one served is the last.
        self._models = {model.id: model for model in models}
        self._resident = resident
        self._were_resident: frozenset[str] = frozenset()
        self._longest_s = longest_s
        self._clock = clock
        self._turn_ends_at = 0.0

    def limits(self) -> dict[str, int]:
        """The models by id with the most images of a batch of theirs, the one to be served first first."""
        preferred = self._resident() if self._clock() < self._turn_ends_at else self._models
        ordered = sorted(self._models.values(), key=lambda model: model.id not in preferred)
        return {model.id: model.batch_limit for model in ordered}

    def model(self, model_id: str) -> Model:
        """One of the models."""
        return self._models[model_id]

    def begin(self, model_id: str) -> None:
        """A batch of this model is rendered next."""
        self._were_resident = frozenset(self._resident())
        self._models[model_id] = self._models.pop(model_id)

    def rendered(self, batch: Rendered) -> None:
        """A batch was rendered just now."""
        if batch.load_s and not self._were_resident <= set(self._resident()):
            turn_s = min(self._longest_s, REPAID * batch.load_s)
            # It began with the load's end.
            self._turn_ends_at = self._clock() + turn_s - batch.render_s

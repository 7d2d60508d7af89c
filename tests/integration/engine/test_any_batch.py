"""Batched and single output agree for every family and mode, whatever is asked: property by example.

The tolerance is that of test_batches.py. Its argument is about floating-point sums, so it holds for any prompts, sizes,
seeds, scales and negative prompts: here they are drawn at random.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.models import GuidanceKind, Mode
from tests.integration.engine.rendering import CATALOG, EVERYTHING, NAMES, item, picture, render, request
from tests.integration.engine.test_batches import ROUNDING
from worker.engine import Engine, Item

#: From 256 pixels, in multiples that all families take, and small enough that many are drawn in seconds.
SIDES = st.integers(min_value=16, max_value=22).map(lambda multiple: multiple * 16)
SEEDS = st.integers(min_value=0, max_value=2**63 - 1)
#: Any script, any emoji, and more words than a text encoder reads.
PROMPTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40) | st.sampled_from(
    ["a cat", "a red house, " * 60, "🦊 im Schnee, 夜景", "((masterpiece)) <best>"]
)


@st.composite
def batches(draw: st.DrawFn, model_id: str, mode: Mode) -> list[Item]:
    """Two or three images that share a lane and nothing else."""
    model = CATALOG.models[model_id]
    fields: dict[str, Any] = {
        "width": draw(SIDES),
        "height": draw(SIDES),
        "scheduler": draw(st.sampled_from(model.scheduler.names)),
    }
    if model.num_steps.min < model.num_steps.max:
        fields["num_steps"] = draw(st.integers(min_value=1, max_value=3))
    if mode is not Mode.TEXT_TO_IMAGE:
        fields["strength"] = draw(st.floats(min_value=0.2, max_value=1.0))
    if model.loras and draw(st.booleans()):
        fields["loras"] = [{"id": model.loras[0].id, "scale": draw(st.floats(min_value=-1.0, max_value=1.5))}]
    some_negative = model.guidance.takes_negative_prompt and draw(st.booleans())
    if some_negative or model.guidance.kind is not GuidanceKind.NEGATIVE_ONLY:
        # Above 1, or negative prompts are refused; to the catalog's own limit.
        fields["guidance_scale"] = draw(st.floats(min_value=1.1, max_value=model.guidance.max))
    of = request(model_id, mode, **fields, **({"negative_prompt": "rain"} if some_negative else {}))
    # Where guidance runs anyway, images with and without a negative prompt meet in a batch.
    mixed = model.guidance.kind is GuidanceKind.CLASSIFIER_FREE
    negatives = (PROMPTS | st.none() if mixed else PROMPTS) if some_negative else st.none()
    asked = draw(st.lists(st.tuples(PROMPTS, negatives, SEEDS), min_size=2, max_size=3))
    return [item(replace(of, prompt=prompt, negative_prompt=negative), seed) for prompt, negative, seed in asked]


@pytest.mark.parametrize(("model", "mode"), EVERYTHING, ids=NAMES)
# The engine is the same for all examples on purpose, and a first example may load its model.
@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_batch_gives_the_pictures_that_its_images_give_alone(
    engine: Engine, model: str, mode: Mode, data: st.DataObject
) -> None:
    items = data.draw(batches(model, mode))
    assert len({one.request.lane for one in items}) == 1
    _, together = render(engine, items)
    for one, pixels in zip(items, together, strict=True):
        assert np.abs(picture(engine, one.request, one.seed) - pixels).max() <= ROUNDING

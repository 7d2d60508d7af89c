"""A picture is the same whatever shares its batch, and a batch can be stopped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shared.models import Mode
from tests.integration.engine.rendering import (
    BASE,
    CATALOG,
    EVERYTHING,
    FILL,
    LIGHTNING,
    NAMES,
    SCHNELL,
    Pixels,
    Steps,
    item,
    picture,
    render,
    request,
)
from worker.engine import Engine

#: The most that a value of a picture, from 0 to 255, may differ between a batch and alone. Every image has its own
#: noise and nothing mixes images, so only the order of floating-point sums differs: matrix products are cut into other
#: blocks for other batch sizes. In float32 that moves a value by about a millionth, which a step amplifies little, and
#: which shows only where it crosses the edge of a rounding: by one level.
ROUNDING = 1


def assert_same(one: Pixels, other: Pixels) -> None:
    assert np.abs(one - other).max() <= ROUNDING


@pytest.mark.parametrize(("model", "mode"), EVERYTHING, ids=NAMES)
def test_a_picture_is_the_same_alone_and_in_a_batch_of_others(engine: Engine, model: str, mode: Mode) -> None:
    asked = [
        request(model, mode),
        request(model, mode, prompt="green mountains and a river in the morning mist, golden hour"),
        request(model, mode, prompt="a red house"),
    ]
    items = [item(one, seed) for one, seed in zip(asked, [7, 8, 7], strict=True)]
    _, together = render(engine, items)
    for one, pixels in zip(items, together, strict=True):
        assert_same(picture(engine, one.request, one.seed), pixels)


@pytest.mark.parametrize("model", [BASE, LIGHTNING, SCHNELL])
@pytest.mark.parametrize("mode", [Mode.TEXT_TO_IMAGE, Mode.IMAGE_TO_IMAGE])
def test_a_picture_does_not_depend_on_its_neighbours_negative_prompts(engine: Engine, model: str, mode: Mode) -> None:
    guided = request(model, mode, negative_prompt="blurry, ugly")
    items = [
        item(guided, 1),
        item(replace(guided, negative_prompt=None), 2),
        item(replace(guided, negative_prompt="a dark forest"), 3),
    ]
    _, together = render(engine, items)
    for one, pixels in zip(items, together, strict=True):
        assert_same(picture(engine, one.request, one.seed), pixels)


def test_more_images_than_the_batch_limit_come_in_order(engine: Engine) -> None:
    asked = request(SCHNELL)
    limit = CATALOG.models[SCHNELL].batch_limit
    seeds = list(range(limit + 2))
    steps = Steps()
    rendered, pictures = render(engine, [item(asked, seed) for seed in seeds], steps)
    assert len(rendered.images) == len(seeds)
    assert_same(picture(engine, asked, seeds[0]), pictures[0])
    assert_same(picture(engine, asked, seeds[-1]), pictures[-1])
    assert steps == [(step, 8) for step in range(1, 9)]


def test_a_job_of_more_images_than_the_batch_limit_stops_within_its_second_batch(engine: Engine) -> None:
    asked = request(SCHNELL)
    items = [item(asked, seed) for seed in range(CATALOG.models[SCHNELL].batch_limit + 1)]
    steps = Steps(stop_at=6)
    rendered, _ = render(engine, items, steps)
    assert rendered.interrupted
    assert rendered.images == []
    assert steps == [(step, 8) for step in range(1, 7)]


@pytest.mark.parametrize(("model", "mode"), EVERYTHING, ids=NAMES)
def test_a_batch_stops_at_the_next_step_and_the_engine_goes_on(engine: Engine, model: str, mode: Mode) -> None:
    asked = request(model, mode, strength=1.0) if mode is not Mode.TEXT_TO_IMAGE else request(model, mode)
    before = picture(engine, asked)
    steps = Steps(stop_at=2)
    rendered, _ = render(engine, [item(asked), item(asked, 5)], steps)
    assert rendered.interrupted
    assert rendered.images == []
    assert steps == [(1, 4), (2, 4)]
    assert np.array_equal(before, picture(engine, asked))


def test_steps_of_an_input_image_are_those_that_its_strength_leaves(engine: Engine) -> None:
    steps = Steps()
    render(engine, [item(request(FILL, Mode.INPAINTING, strength=0.5, num_steps=8))], steps)
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]

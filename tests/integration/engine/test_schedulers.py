"""The noise schedulers that a request may name. That none mixes the images of a batch, test_any_batch.py shows."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from shared.errors import JobFailure
from shared.models import Mode
from shared.noise import NoiseSchedulerName
from tests.integration.engine.rendering import (
    BASE,
    CATALOG,
    SCHNELL,
    Steps,
    distance,
    item,
    picture,
    render,
    request,
)
from worker.engine import Engine
from worker.engine.architectures import SDXL
from worker.engine.schedulers import DIFFUSION, scheduler_for

ALL = CATALOG.models[BASE].scheduler.names


def test_the_base_allows_every_scheduler() -> None:
    assert set(ALL) == set(NoiseSchedulerName)


@pytest.mark.parametrize("mode", [Mode.TEXT_TO_IMAGE, Mode.IMAGE_TO_IMAGE])
def test_each_scheduler_makes_its_own_picture_of_the_same_seed(engine: Engine, mode: Mode) -> None:
    pictures = {name: picture(engine, request(BASE, mode, scheduler=name)) for name in ALL}
    for one, other in pairwise(pictures.values()):
        assert distance(one, other) > 0.1
    for name, pixels in pictures.items():
        assert np.array_equal(pixels, picture(engine, request(BASE, mode, scheduler=name))), name


@pytest.mark.parametrize("name", ALL)
def test_each_scheduler_takes_the_steps_that_the_strength_leaves(engine: Engine, name: str) -> None:
    steps = Steps()
    render(engine, [item(request(BASE, Mode.IMAGE_TO_IMAGE, scheduler=name, strength=0.5, num_steps=4))], steps)
    assert steps == [(1, 2), (2, 2)]


@pytest.mark.parametrize("name", ALL)
def test_each_scheduler_takes_any_number_of_steps_that_the_model_does(name: str) -> None:
    model = CATALOG.models[BASE]
    for num_steps in range(model.num_steps.min, model.num_steps.max + 1):
        asked = request(BASE, scheduler=name, num_steps=num_steps)
        scheduler = scheduler_for(DIFFUSION, model, asked, SDXL.scheduler.config)
        scheduler.set_timesteps(num_steps)
        assert len(scheduler.timesteps) == num_steps


def test_a_request_without_one_runs_with_the_models_own(engine: Engine) -> None:
    asked = request(BASE)
    assert np.array_equal(picture(engine, asked), picture(engine, replace(asked, scheduler=None)))


def test_one_that_the_family_does_not_have_is_unsupported(engine: Engine) -> None:
    with pytest.raises(JobFailure, match="run with euler, not with unipc") as failure:
        render(engine, [item(replace(request(SCHNELL), scheduler="unipc"))])
    assert failure.value.code == "unsupported"

"""What a picture depends on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import PIL.Image
import pytest

from shared.errors import JobFailure
from shared.models import Mode
from tests.integration.engine.rendering import (
    BASE,
    EVERYTHING,
    FILL,
    LIGHTNING,
    NAMES,
    SCHNELL,
    SIDE,
    Steps,
    distance,
    input_picture,
    item,
    picture,
    render,
    request,
)
from worker.engine import Engine, Item

#: Mean difference from which two pictures look different; a rounding here and there stays far below.
VISIBLE = 1.0


@pytest.mark.parametrize(("model", "mode"), EVERYTHING, ids=NAMES)
def test_every_model_renders_a_colourful_picture_in_every_mode_it_has(engine: Engine, model: str, mode: Mode) -> None:
    pixels = picture(engine, request(model, mode))
    assert pixels.shape == (SIDE, SIDE, 3)
    assert pixels.std(axis=(0, 1)).min() > 5


@pytest.mark.parametrize(("model", "mode"), EVERYTHING, ids=NAMES)
def test_a_picture_follows_its_seed_and_its_prompt(engine: Engine, model: str, mode: Mode) -> None:
    asked = request(model, mode)
    plain = picture(engine, asked)
    assert distance(plain, picture(engine, asked, seed=2)) > VISIBLE
    assert distance(plain, picture(engine, replace(asked, prompt="green mountains in the mist"))) > VISIBLE


@pytest.mark.parametrize(("model", "mode"), EVERYTHING, ids=NAMES)
def test_the_same_seed_gives_the_same_bytes_twice(engine: Engine, model: str, mode: Mode) -> None:
    asked = request(model, mode)
    other = request(model, mode, seed=99)
    first = picture(engine, asked)
    picture(engine, other)
    assert np.array_equal(first, picture(engine, asked))


@pytest.mark.parametrize("model", [BASE, LIGHTNING, SCHNELL])
@pytest.mark.parametrize("mode", [Mode.TEXT_TO_IMAGE, Mode.IMAGE_TO_IMAGE])
def test_a_negative_prompt_changes_the_picture_even_where_the_model_runs_without_guidance(
    engine: Engine, model: str, mode: Mode
) -> None:
    plain = picture(engine, request(model, mode))
    negative = request(model, mode, negative_prompt="blurry, ugly, text, watermark")
    assert distance(plain, picture(engine, negative)) > VISIBLE
    other = request(model, mode, negative_prompt="a green forest")
    assert distance(picture(engine, negative), picture(engine, other)) > 0


def test_a_negative_prompt_that_the_scale_would_drop_is_refused(engine: Engine) -> None:
    asked = replace(request(BASE, negative_prompt="ugly"), guidance_scale=1.0)
    with pytest.raises(JobFailure, match="guidance_scale"):
        render(engine, [item(asked)])


@pytest.mark.parametrize("model", [BASE, FILL])
def test_a_guidance_scale_changes_the_picture(engine: Engine, model: str) -> None:
    mode = Mode.INPAINTING if model == FILL else Mode.TEXT_TO_IMAGE
    plain = picture(engine, request(model, mode))
    assert distance(plain, picture(engine, request(model, mode, guidance_scale=2.0))) > 0.1


@pytest.mark.parametrize("model", [BASE, LIGHTNING, SCHNELL])
def test_the_weaker_the_strength_the_nearer_the_input_image(engine: Engine, model: str) -> None:
    given = np.asarray(input_picture()).astype(float)
    strengths = [0.25, 0.5, 1.0]
    pictures = [picture(engine, request(model, Mode.IMAGE_TO_IMAGE, strength=strength)) for strength in strengths]
    distances = [distance(given, pixels) for pixels in pictures]
    assert distances == sorted(distances)
    assert distances[0] < 0.7 * distances[-1]


@pytest.mark.parametrize(("model", "mode"), [pair for pair in EVERYTHING if pair[1] is not Mode.TEXT_TO_IMAGE])
@pytest.mark.parametrize("strength", [0.0, 0.01])
def test_a_strength_too_weak_for_a_step_takes_one_step(engine: Engine, model: str, mode: Mode, strength: float) -> None:
    steps = Steps()
    render(engine, [item(request(model, mode, strength=strength))], steps)
    assert steps == [(1, 1)]


@pytest.mark.parametrize("num_steps", [1, 49, 98])
def test_one_step_is_left_whatever_the_number_of_steps(engine: Engine, num_steps: int) -> None:
    steps = Steps()
    asked = request(BASE, Mode.IMAGE_TO_IMAGE, strength=0.001, num_steps=num_steps)
    render(engine, [item(asked)], steps)
    assert steps == [(1, 1)]


def test_fill_keeps_what_is_black_in_the_mask_and_repaints_what_is_white(engine: Engine) -> None:
    given = np.asarray(input_picture()).astype(float)
    pixels = picture(engine, request(FILL, Mode.INPAINTING, num_steps=8))
    middle = SIDE // 2
    kept = distance(given[:, : middle - 16], pixels[:, : middle - 16])
    repainted = distance(given[:, middle + 16 :], pixels[:, middle + 16 :])
    assert kept < 0.6 * repainted


def test_an_input_image_of_another_shape_is_cropped_and_its_mask_with_it(engine: Engine) -> None:
    asked = request(FILL, Mode.INPAINTING)
    exact = item(asked)
    assert exact.input_image is not None
    assert exact.mask_image is not None
    # The same picture and mask with a margin left and right, the mask at half the size.
    wide = PIL.Image.new("RGB", (SIDE * 2, SIDE), "white")
    wide.paste(exact.input_image, (SIDE // 2, 0))
    wide_mask = PIL.Image.new("L", (SIDE * 2, SIDE), 0)
    wide_mask.paste(exact.mask_image, (SIDE // 2, 0))
    loose = Item(asked, exact.seed, wide, wide_mask.resize((SIDE, SIDE // 2)))
    _, (one,) = render(engine, [exact])
    _, (other,) = render(engine, [loose])
    assert distance(one, other) < VISIBLE


def test_a_picture_is_as_wide_and_as_high_as_asked(engine: Engine) -> None:
    for model, mode in EVERYTHING:
        rendered, _ = render(engine, [item(request(model, mode, width=320, height=256))])
        assert rendered.images[0].size == (320, 256)
        assert rendered.images[0].mode == "RGB"


def test_a_mode_that_the_family_does_not_have_is_unsupported(engine: Engine) -> None:
    asked = replace(request(SCHNELL), mode=Mode.INPAINTING)
    with pytest.raises(JobFailure, match="inpainting") as failure:
        render(engine, [item(asked)])
    assert failure.value.code == "unsupported"


def test_an_absent_input_image_is_invalid_input(engine: Engine) -> None:
    asked = request(SCHNELL, Mode.IMAGE_TO_IMAGE)
    with pytest.raises(JobFailure) as failure:
        render(engine, [Item(asked, 1)])
    assert failure.value.code == "invalid_input"

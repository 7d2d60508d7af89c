from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.catalog import load_catalog
from shared.errors import RendermillError, RequestInvalid
from shared.models import Mode
from shared.requests import MAX_SEED, RenderRequest, resolve
from shared.settings import Settings

CATALOG = load_catalog(Settings().catalog_path)
FILL = {"model": "flux-fill", "prompt": "a door", "input_image": "given", "mask_image": "given"}


def resolved(**body: Any) -> RenderRequest:
    return resolve(CATALOG, {"model": "sdxl-lightning", "prompt": "a cat", **body})[0]


def refusal(**body: Any) -> RequestInvalid:
    with pytest.raises(RequestInvalid) as refused:
        resolve(CATALOG, {"model": "sdxl-base", "prompt": "a cat", **body})
    return refused.value


def test_what_is_not_said_comes_from_the_catalog() -> None:
    request = resolve(CATALOG, {"model": "sdxl-base", "prompt": "a cat"})[0]
    assert (request.width, request.height, request.num_steps, request.guidance_scale) == (1024, 1024, 30, 5.0)
    assert (request.mode, request.n, request.output_format) == (Mode.TEXT_TO_IMAGE, 1, "jpeg")


def test_a_random_seed_differs_and_is_reported() -> None:
    assert resolved().seed != resolved().seed


def test_a_seed_of_zero_is_a_seed() -> None:
    assert resolved(seed=0).seed == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"width": 1023}, "width"),
        ({"width": 100}, "width"),
        ({"height": 4096}, "height"),
        ({"width": 2048, "height": 2048}, "width"),
        ({"num_steps": 0}, "num_steps"),
        ({"num_steps": 101}, "num_steps"),
        ({"guidance_scale": 21.0}, "guidance_scale"),
        ({"seed": MAX_SEED, "n": 2}, "seed"),
        ({"mask_image": "given", "input_image": "given"}, "mask_image"),
    ],
)
def test_a_field_outside_the_models_limits_is_named(body: dict[str, Any], field: str) -> None:
    assert field in refusal(**body).errors


def test_every_wrong_field_is_named_at_once() -> None:
    assert refusal(width=1023, num_steps=0, guidance_scale=99.0).errors.keys() == {
        "width",
        "num_steps",
        "guidance_scale",
    }


def test_a_scheduler_is_the_models_own_or_one_that_it_allows() -> None:
    assert resolved(model="sdxl-base").scheduler == "euler"
    assert resolved(model="sdxl-base", scheduler="unipc").scheduler == "unipc"
    assert resolved(model="sdxl-lightning", scheduler="euler").scheduler == "euler"


@pytest.mark.parametrize("model", ["sdxl-lightning", "flux-schnell"])
def test_a_scheduler_that_the_model_does_not_allow_is_refused_with_all_names(model: str) -> None:
    error = refusal(model=model, scheduler="dpmpp_2m_karras")
    assert error.errors == {"scheduler": [f"must be euler for {CATALOG.find(model).id}, not dpmpp_2m_karras"]}


def test_a_parameter_the_model_does_not_take_is_refused_with_both_names() -> None:
    error = refusal(**FILL, negative_prompt="rain")
    assert error.code == "unsupported_parameter"
    assert error.extra["model"] == "black-forest-labs/FLUX.1-Fill-dev"
    assert "does not take negative_prompt" in error.errors["negative_prompt"][0]


def test_fill_without_images_says_what_it_needs() -> None:
    assert "input_image and mask_image are needed" in refusal(model="flux-fill").errors["input_image"][0]


def test_a_mask_without_an_image_is_refused() -> None:
    assert refusal(mask_image="given").errors.keys() == {"input_image"}


def test_an_unknown_model_is_refused_with_the_list() -> None:
    with pytest.raises(RendermillError) as refused:
        resolve(CATALOG, {"model": "nothing", "prompt": "a cat"})
    assert refused.value.extra["models"]


@given(st.integers(min_value=256, max_value=1400), st.integers(min_value=256, max_value=1400))
def test_fill_rounds_any_size_to_multiples_of_16_and_says_so(width: int, height: int) -> None:
    request, warnings = resolve(CATALOG, {**FILL, "width": width, "height": height})
    assert request.width % 16 == request.height % 16 == 0
    assert abs(request.width - width) <= 8
    assert abs(request.height - height) <= 8
    changed = [name for name, asked in (("width", width), ("height", height)) if getattr(request, name) != asked]
    assert [warning.split()[0] for warning in warnings] == changed


@pytest.mark.parametrize("model", ["sdxl-lightning", "flux-schnell"])
def test_a_negative_prompt_switches_guidance_on_where_a_model_runs_without(model: str) -> None:
    assert resolved(model=model).guidance_scale == 0
    assert resolved(model=model, negative_prompt="rain").guidance_scale == CATALOG.find(model).guidance.default
    assert resolved(model=model, negative_prompt="rain", guidance_scale=3.0).guidance_scale == 3.0


@pytest.mark.parametrize("model", ["sdxl-base", "sdxl-lightning", "flux-schnell"])
def test_guidance_too_small_for_a_negative_prompt_is_refused_rather_than_ignored(model: str) -> None:
    assert "guidance_scale" in refusal(model=model, negative_prompt="rain", guidance_scale=1.0).errors


def test_guidance_without_effect_is_said() -> None:
    request, warnings = resolve(CATALOG, {"model": "flux-schnell", "prompt": "a cat", "guidance_scale": 4.0})
    assert request.guidance_scale == 0
    assert "no effect" in warnings[0]


def test_strength_belongs_to_input_images() -> None:
    assert resolved().strength is None
    assert resolved(input_image="given").strength == 0.6
    assert resolved(input_image="given", strength=0.3).mode is Mode.IMAGE_TO_IMAGE


def test_a_request_survives_json() -> None:
    request = resolved(negative_prompt="rain", n=3, seed=7)
    assert RenderRequest.from_dict(json.loads(json.dumps(request.to_dict()))) == request


def test_a_request_of_an_earlier_version_has_no_scheduler_of_its_own() -> None:
    stored = resolved().to_dict()
    del stored["scheduler"]
    assert RenderRequest.from_dict(stored).scheduler is None


def test_jobs_that_differ_in_prompt_and_seed_alone_share_a_lane() -> None:
    assert resolved(prompt="one", seed=1).lane == resolved(prompt="two", seed=2, n=3).lane


@pytest.mark.parametrize(
    "other",
    [
        {"width": 512},
        {"num_steps": 29},
        {"guidance_scale": 5.0000001},
        {"scheduler": "euler_a"},
        {"input_image": "given"},
        {"input_image": "given", "strength": 0.6000001},
    ],
)
def test_jobs_that_cannot_share_a_batch_have_lanes_of_their_own(other: dict[str, Any]) -> None:
    lanes = {resolved(model="sdxl-base", **body).lane for body in ({}, {"input_image": "given"}, other)}
    assert len(lanes) == (2 if other == {"input_image": "given"} else 3)


def test_a_negative_prompt_that_switches_guidance_on_has_a_lane_of_its_own() -> None:
    assert resolved().lane != resolved(negative_prompt="x").lane


def test_a_number_is_the_same_lane_however_it_is_written() -> None:
    assert resolved(model="sdxl-base", guidance_scale=7).lane == resolved(model="sdxl-base", guidance_scale=7.0).lane


def test_a_negative_prompt_doubles_the_cost_and_n_multiplies_it() -> None:
    model = CATALOG.find("sdxl-lightning")
    plain = resolved().cost(model)
    assert resolved(negative_prompt="rain").cost(model) == pytest.approx(2 * plain)
    assert resolved(n=4).cost(model) == pytest.approx(4 * plain)

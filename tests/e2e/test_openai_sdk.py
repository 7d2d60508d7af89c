"""The official openai SDK, unchanged, against the whole farm."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import httpx
import openai
import pytest
from PIL import Image

from tests.running_farm import RunningFarm

#: Both base URLs that the contract names.
BASES = ["/v1", "/api"]
SIZE = "256x256"


@pytest.fixture(params=BASES)
def sdk(farm: RunningFarm, request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=farm.url + request.param, api_key=farm.key, max_retries=0) as client:
        yield client


def picture(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def png(mode: str, colour: int | tuple[int, ...]) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (256, 256), colour).save(out, "PNG")
    return out.getvalue()


def test_a_url_can_be_downloaded_by_anybody(sdk: openai.OpenAI) -> None:
    answer = sdk.images.generate(model="dall-e-2", prompt="a cat", size=SIZE, response_format="url")
    assert answer.created > 0
    assert answer.data is not None
    url = answer.data[0].url
    assert url is not None
    downloaded = httpx.get(url)
    assert downloaded.status_code == httpx.codes.OK
    assert picture(downloaded.content).size == (256, 256)


def test_b64_json_holds_three_different_pictures(sdk: openai.OpenAI) -> None:
    answer = sdk.images.generate(model="dall-e-2", prompt="a cat", size=SIZE, response_format="b64_json", n=3)
    assert answer.data is not None
    pictures = {image.b64_json for image in answer.data}
    assert len(pictures) == 3
    for text in pictures:
        assert text is not None
        assert picture(base64.b64decode(text)).size == (256, 256)


def test_an_image_is_edited_where_its_mask_is_transparent(sdk: openai.OpenAI) -> None:
    answer = sdk.images.edit(
        model="dall-e-2",
        prompt="a door",
        image=("room.png", png("RGB", (120, 160, 90))),
        mask=("mask.png", png("RGBA", (0, 0, 0, 0))),
        size=SIZE,
        response_format="b64_json",
        extra_body={"num_inference_steps": 4},
    )
    assert answer.data is not None
    assert answer.data[0].b64_json is not None
    assert picture(base64.b64decode(answer.data[0].b64_json)).size == (256, 256)


def test_several_images_can_be_given(sdk: openai.OpenAI) -> None:
    answer = sdk.images.edit(
        model="gpt-image-1", prompt="in winter", image=[("one.png", png("RGB", (9, 90, 200)))], size="1024x1024"
    )
    assert answer.data is not None
    assert answer.data[0].b64_json


def test_a_picture_can_be_streamed(farm: RunningFarm) -> None:
    with openai.OpenAI(base_url=farm.url + "/v1", api_key=farm.key) as sdk:
        events = list(sdk.images.generate(model="gpt-image-1", prompt="a cat", size="1024x1024", stream=True))
    last = events[-1]
    assert last.type == "image_generation.completed"
    assert picture(base64.b64decode(last.b64_json)).size == (1024, 1024)


def test_extensions_reach_the_model(farm: RunningFarm) -> None:
    with openai.OpenAI(base_url=farm.url + "/v1", api_key=farm.key) as sdk:
        first, again = (
            sdk.images.generate(
                model="sdxl-base",
                prompt="a cat",
                size=SIZE,
                response_format="b64_json",
                extra_body={"seed": 5, "num_inference_steps": 3, "guidance_scale": 4, "negative_prompt": "dogs"},
            )
            for _ in range(2)
        )
    assert first.data is not None
    assert again.data is not None
    assert first.data[0].b64_json == again.data[0].b64_json


def test_models_are_listed(sdk: openai.OpenAI) -> None:
    ids = {model.id for model in sdk.models.list()}
    assert {"black-forest-labs/FLUX.1-schnell", "stabilityai/stable-diffusion-xl-base-1.0"} <= ids


def test_a_wrong_key_is_an_authentication_error(farm: RunningFarm) -> None:
    with openai.OpenAI(base_url=farm.url + "/v1", api_key="rm_wrong") as sdk, pytest.raises(openai.AuthenticationError):
        sdk.images.generate(model="dall-e-2", prompt="a cat")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": "midjourney"}, "model"),
        ({"size": "1023x1024"}, "size"),
        ({"n": 11}, "n"),
        ({"n": 0}, "n"),
        ({"prompt": ""}, "prompt"),
    ],
)
def test_a_wrong_parameter_is_a_bad_request_that_names_it(
    sdk: openai.OpenAI, change: dict[str, object], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.images.generate(**{"model": "dall-e-2", "prompt": "a cat", "size": SIZE, **change})  # type: ignore[call-overload]
    assert refused.value.param == param


def test_an_unknown_model_is_not_found(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        sdk.models.retrieve("midjourney")
    assert refused.value.code == "not_found"


def test_models_with_a_wrong_key_are_an_authentication_error(farm: RunningFarm) -> None:
    with (
        openai.OpenAI(base_url=farm.url + "/v1", api_key="rm_wrong", max_retries=0) as sdk,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        sdk.models.list()
    assert (refused.value.code, refused.value.type) == ("invalid_api_key", "invalid_request_error")

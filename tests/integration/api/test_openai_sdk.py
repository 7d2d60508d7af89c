"""The official OpenAI SDK, unchanged, against every base address of the front door."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import httpx
import openai
import pytest
from openai import OpenAI
from PIL import Image

from shared.accounts import Accounts
from shared.limits import AccountLimits, Rate
from tests.integration.api.conftest import Farm
from tests.unit.api import pictures


@pytest.fixture(params=["/v1", "/api", "/api/v1", "/api/v2"])
def sdk(live: Farm, request: pytest.FixtureRequest) -> Iterator[OpenAI]:
    with OpenAI(api_key=live.key, base_url=live.url + request.param, max_retries=0) as client:
        yield client


def test_a_url_is_downloaded_without_a_key(sdk: OpenAI) -> None:
    answer = sdk.images.generate(prompt="a cat", size="512x512")
    assert answer.created > 0
    (image,) = answer.data or []
    assert image.url is not None
    file = httpx.get(image.url)
    assert file.status_code == 200
    assert file.headers["content-type"] == "image/png"
    assert pictures.opened(file.content).size == (512, 512)


def test_three_images_come_as_base64(sdk: OpenAI) -> None:
    answer = sdk.images.generate(model="dall-e-3", prompt="a cat", n=3, size="256x256", response_format="b64_json")
    sizes = [pictures.opened(base64.b64decode(image.b64_json or "")).size for image in answer.data or []]
    assert sizes == [(256, 256)] * 3


def test_a_gpt_image_model_answers_as_the_sdk_expects(sdk: OpenAI) -> None:
    answer = sdk.images.generate(
        model="gpt-image-1",
        prompt="a cat",
        size="1024x1024",
        quality="high",
        background="opaque",
        moderation="auto",
        output_format="jpeg",
        output_compression=80,
        user="me",
    )
    assert (answer.size, answer.quality, answer.output_format, answer.background) == (
        "1024x1024",
        "high",
        "jpeg",
        "opaque",
    )
    assert answer.usage is not None
    assert answer.usage.total_tokens == 0
    assert pictures.opened(base64.b64decode((answer.data or [])[0].b64_json or "")).format == "JPEG"


def test_the_extensions_go_in_the_extra_body(sdk: OpenAI, live: Farm) -> None:
    extra = {"seed": 9, "negative_prompt": "blue", "guidance_scale": 2.5, "num_inference_steps": 4}
    raw = sdk.images.with_raw_response.generate(
        model="dall-e-3", prompt="a cat", size="256x256", response_format="b64_json", extra_body=extra
    )
    job = httpx.get(f"{live.url}/v1/jobs/{raw.headers['x-job-id']}", headers={"x-api-key": live.key}).json()
    assert job["images"][0]["seed"] == 9
    assert (job["input"]["negative_prompt"], job["input"]["guidance_scale"]) == ("blue", 2.5)


def test_an_image_is_edited_where_its_mask_is_transparent(sdk: OpenAI, live: Farm) -> None:
    mask = Image.new("RGBA", (64, 48), (0, 0, 0, 255))
    mask.putpixel((0, 0), (0, 0, 0, 0))
    raw = sdk.images.with_raw_response.edit(
        model="gpt-image-1",
        image=("fox.png", pictures.png(64, 48)),
        mask=("mask.png", pictures.encoded(mask)),
        prompt="a hat",
        size="1024x1024",
        n=2,
    )
    assert len(raw.parse().data or []) == 2
    stored = pictures.opened(live.storage.get(f"inputs/{raw.headers['x-job-id']}/mask.png"))
    assert [stored.getpixel(at) for at in ((0, 0), (1, 0))] == [255, 0]


def test_a_list_of_one_image_is_edited_as_well(sdk: OpenAI) -> None:
    answer = sdk.images.edit(image=[io.BytesIO(pictures.png())], prompt="a hat", size="256x256")
    assert (answer.data or [])[0].url


def test_images_are_streamed(sdk: OpenAI) -> None:
    stream = sdk.images.generate(model="gpt-image-1", prompt="a cat", size="1024x1024", stream=True, partial_images=1)
    (event,) = list(stream)
    assert event.type == "image_generation.completed"
    assert pictures.opened(base64.b64decode(event.b64_json)).size == (1024, 1024)
    edited = sdk.images.edit(
        model="gpt-image-1", image=("x.png", pictures.png()), prompt="a hat", stream=True, size="1024x1024"
    )
    assert [event.type for event in edited] == ["image_edit.completed"]


def test_models_are_listed_and_retrieved(sdk: OpenAI) -> None:
    models = list(sdk.models.list())
    assert "black-forest-labs/FLUX.1-schnell" in {model.id for model in models}
    one = sdk.models.retrieve("black-forest-labs/FLUX.1-schnell")
    assert (one.id, one.object, one.owned_by) == ("black-forest-labs/FLUX.1-schnell", "model", "black-forest-labs")


def test_each_error_is_the_right_exception(sdk: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.images.generate(prompt="x", size="1023x1024")  # type: ignore[call-overload]
    assert refused.value.param == "size"
    assert refused.value.request_id is not None
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.images.generate(prompt="x", n=11)
    assert (refused.value.param, refused.value.type) == ("n", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.images.generate(prompt="x", model="dall-e-9")
    assert (refused.value.param, refused.value.code) == ("model", "model_not_found")
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.images.edit(image=("x.png", b"hello"), prompt="x")
    assert refused.value.param == "image"
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("dall-e-9")
    with pytest.raises(openai.InternalServerError) as failed:
        sdk.images.generate(prompt="fail: render_failed")
    assert failed.value.status_code == 502
    with OpenAI(api_key="wrong", base_url=str(sdk.base_url), max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as unknown:
            stranger.images.generate(prompt="x")
        assert unknown.value.code == "invalid_api_key"
    with pytest.raises(openai.APIError, match="it went wrong"):
        list(sdk.images.generate(prompt="fail: out_of_memory", model="gpt-image-1", stream=True))


def test_a_failed_render_is_not_sent_again_by_the_sdk(live: Farm) -> None:
    patient = OpenAI(api_key=live.key, base_url=live.url + "/v1", max_retries=2)
    with patient, pytest.raises(openai.InternalServerError):
        patient.images.generate(prompt="fail: model_unavailable")
    listed = httpx.get(f"{live.url}/v1/jobs?status=failed&limit=100", headers={"x-api-key": live.key}).json()["data"]
    assert [job["input"]["prompt"] for job in listed].count("fail: model_unavailable") == 1


def test_a_request_too_many_is_the_sdks_rate_limit_error(live: Farm) -> None:
    limits = AccountLimits(live.redis)
    key = Accounts(live.redis).create_key("limited")
    limits.set_rate("limited", Rate(1, 3600))
    with OpenAI(api_key=key, base_url=f"{live.url}/v1", max_retries=0) as client:
        client.images.generate(prompt="a cat", size="256x256")
        with pytest.raises(openai.RateLimitError) as refused:
            client.images.generate(prompt="a cat", size="256x256")
    assert refused.value.code == "rate_limit_exceeded"
    assert int(refused.value.response.headers["retry-after"]) > 3000
    assert '"requests";r=0' in refused.value.response.headers["ratelimit"]


def test_the_sdk_waits_as_long_as_it_is_told_and_gets_its_picture(live: Farm) -> None:
    key = Accounts(live.redis).create_key("patient")
    AccountLimits(live.redis).set_rate("patient", Rate(1, 1))
    with OpenAI(api_key=key, base_url=f"{live.url}/v1", max_retries=3) as client:
        answers = [client.images.generate(prompt="a cat", size="256x256") for _ in range(3)]
    assert all(answer.data for answer in answers)

"""The example requests of the three services' own documentation, answered in their own shapes."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.running_farm import RunningFarm

IMAGE_ID = re.compile(r"image_[a-zA-Z0-9]{24}")
#: A picture of 1792×1024 on two cores, behind whatever else the farm does.
PATIENCE_S = 240.0


def post(farm: RunningFarm, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    auth = {} if "x_api_key" in headers else {"authorization": f"Bearer {farm.key}"}
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return httpx.post(farm.url + path, json=body, headers=auth | named, timeout=PATIENCE_S)


def picture(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def base64_png(mode: str, size: tuple[int, int], colour: int | tuple[int, int, int]) -> str:
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


# IMG Processing


def test_imagine_answers_201_with_an_image_of_1024_by_1024_in_jpeg(farm: RunningFarm) -> None:
    answer = post(farm, "/v1/images/imagine", {"name": "cat", "prompt": "A cat", "seed": 7}, x_api_key=farm.key)
    assert answer.status_code == 201
    image = answer.json()
    assert IMAGE_ID.fullmatch(image["id"])
    assert image["name"] == "cat"
    assert image["url"] is None
    assert (image["width"], image["height"], image["format"]) == (1024, 1024, "jpeg")
    downloaded = httpx.get(f"{farm.url}/v1/images/{image['id']}/download", headers={"x-api-key": farm.key})
    assert downloaded.headers["content-type"] == "image/jpeg"
    assert len(downloaded.content) == image["size"]
    assert picture(downloaded.content).size == (1024, 1024)


def test_an_image_is_public_from_publish_to_unpublish(farm: RunningFarm) -> None:
    image = post(farm, "/v1/images/imagine", {"name": "dog", "prompt": "A dog", "model": "sdxl"}).json()
    path = f"/v1/images/{image['id']}"
    published = post(farm, f"{path}/publish", {})
    assert published.status_code == 201
    url = published.json()["url"]
    assert picture(httpx.get(url).content).size == (1024, 1024)
    assert post(farm, f"{path}/publish", {}).json()["url"] == url, "the address is stable"
    unpublished = post(farm, f"{path}/unpublish", {})
    assert (unpublished.status_code, unpublished.json()["url"]) == (201, None)
    assert httpx.get(url).status_code == 404


def test_imagine_takes_a_negative_prompt_with_flux(farm: RunningFarm) -> None:
    body = {"name": "sea", "prompt": "The sea", "negative_prompt": "ships", "model": "flux", "seed": 0}
    assert post(farm, "/v1/images/imagine", body).status_code == 201


@pytest.mark.parametrize(
    "change", [{"prompt": "x" * 1001}, {"name": ""}, {"name": "x" * 31}, {"seed": -1}, {"model": "dall-e"}]
)
def test_imagine_refuses_in_its_own_error_shape(farm: RunningFarm, change: dict[str, Any]) -> None:
    answer = post(farm, "/v1/images/imagine", {"name": "cat", "prompt": "A cat", **change})
    assert answer.status_code == 422
    problem = answer.json()
    assert (problem["error"], problem["status"]) == ("Validation Error", 422)
    assert any(next(iter(change)) in text for text in problem["errors"])


# AIGNE Hub


def test_the_first_example_of_aigne_hub_gives_a_url(farm: RunningFarm) -> None:
    body = {"prompt": "A photorealistic image of a cat programming on a laptop", "n": 1, "size": "1024x1024"}
    answer = post(farm, "/api/images/generations", body)
    assert answer.status_code == 200
    assert answer.json()["created"] > 0
    (image,) = answer.json()["data"]
    assert picture(httpx.get(image["url"]).content).size == (1024, 1024)


def test_the_second_example_of_aigne_hub_gives_base64(farm: RunningFarm) -> None:
    body = {
        "model": "dall-e-3",
        "prompt": "An oil painting of a futuristic city skyline at sunset, with flying cars",
        "n": 1,
        "size": "1792x1024",
        "quality": "hd",
        "style": "vivid",
        "response_format": "b64_json",
    }
    answer = post(farm, "/api/images/generations", body)
    assert answer.status_code == 200
    (image,) = answer.json()["data"]
    assert picture(base64.b64decode(image["b64_json"])).size == (1792, 1024)


# Hyperbolic


@pytest.mark.parametrize("model", ["stabilityai/stable-diffusion-xl-base-1.0", "black-forest-labs/FLUX.1-schnell"])
def test_hyperbolic_renders_text_to_image(farm: RunningFarm, model: str) -> None:
    body = {"model_name": model, "prompt": "a cat", "width": 512, "height": 512, "num_steps": 4, "seed": 3}
    answer = post(farm, "/v1/image/generation", {**body, "guidance_scale": 5})
    assert answer.status_code == 200
    (image,) = answer.json()["images"]
    assert (image["index"], image["random_seed"]) == (0, 3)
    assert image["b64_json"] == image["image"]
    assert picture(base64.b64decode(image["b64_json"])).size == (512, 512)
    assert answer.json()["inference_time"] > 0


def test_hyperbolic_fills_an_image_and_rounds_its_size(farm: RunningFarm) -> None:
    body = {
        "model_name": "black-forest-labs/FLUX.1-Fill-dev",
        "prompt": "a door",
        "input_image": base64_png("RGB", (500, 500), (120, 160, 90)),
        "mask_image": base64_png("L", (500, 500), 255),
        "width": 500,
        "height": 500,
        "steps": 4,
    }
    answer = post(farm, "/v1/image/generation", body)
    assert answer.status_code == 200
    assert picture(base64.b64decode(answer.json()["images"][0]["b64_json"])).size == (496, 496)


# All of them


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/images/imagine", {"name": "cat", "prompt": "A cat"}),
        ("/api/images/generations", {"prompt": "A cat", "size": "256x256"}),
        ("/v1/image/generation", {"model_name": "SDXL1.0-base", "prompt": "A cat", "steps": 2}),
    ],
)
def test_a_dialect_turns_asynchronous_with_one_header(farm: RunningFarm, path: str, body: dict[str, Any]) -> None:
    answer = post(farm, path, body, prefer="respond-async")
    assert answer.status_code == 202
    job = answer.json()
    assert job["object"] == "job"
    assert answer.headers["location"] == job["urls"]["self"]

"""The Hyperbolic dialect."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image

from tests.memory_storage import MemoryStorage
from tests.unit.api import pictures
from tests.unit.api.pictures import base64_text

PATH = "/v1/image/generation"
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"


def job_of(client: FlaskClient, answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/jobs/{answer.headers['X-Job-Id']}").json
    return found


@pytest.mark.usefixtures("working")
def test_an_image_comes_under_all_the_names_its_clients_read(client: FlaskClient) -> None:
    body = {
        "model_name": SDXL,
        "prompt": "a cat",
        "negative_prompt": "a dog",
        "width": 512,
        "height": 256,
        "num_steps": 20,
        "guidance_scale": 6,
        "seed": 7,
        "backend": "auto",
        "enable_refiner": False,
    }
    answer = client.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    assert set(answer.json) == {"images", "inference_time"}
    assert answer.json["inference_time"] == 0.25
    (image,) = answer.json["images"]
    assert (image["index"], image["random_seed"], image["b64_json"]) == (0, 7, image["image"])
    assert pictures.opened(base64.b64decode(image["image"])).size == (512, 256)
    asked = job_of(client, answer)["input"]
    assert (asked["num_steps"], asked["guidance_scale"], asked["output_format"]) == (20, 6, "png")


@pytest.mark.usefixtures("working")
def test_its_other_names_mean_the_same(client: FlaskClient) -> None:
    answer = client.post(PATH, json={"model_name": "SDXL1.0-base", "prompt": "x", "steps": 9, "cfg_scale": 3.5})
    asked = job_of(client, answer)["input"]
    assert (asked["model"], asked["num_steps"], asked["guidance_scale"]) == (SDXL, 9, 3.5)
    both = client.post(PATH, json={"model_name": SDXL, "prompt": "x", "steps": 9, "num_steps": 10})
    assert (both.status_code, list(both.json["error"]["errors"])) == (422, ["steps"])


@pytest.mark.usefixtures("working")
@pytest.mark.parametrize("model", ["black-forest-labs/FLUX.1-schnell", "FLUX.1-schnell", SDXL])
def test_every_model_of_the_seed_is_known(client: FlaskClient, model: str) -> None:
    assert client.post(PATH, json={"model_name": model, "prompt": "x"}).status_code == 200


@pytest.mark.usefixtures("working")
def test_fill_repaints_what_is_white_and_rounds_sizes_to_16(client: FlaskClient, storage: MemoryStorage) -> None:
    mask = Image.new("L", (64, 48), 0)
    mask.putpixel((0, 0), 255)
    body = {
        "model_name": "black-forest-labs/FLUX.1-Fill-dev",
        "prompt": "a cat",
        "width": 1000,
        "height": 500,
        "input_image": base64_text(pictures.png(64, 48)),
        "mask_image": base64_text(pictures.encoded(mask)),
    }
    answer = client.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    job = job_of(client, answer)
    assert (job["input"]["width"], job["input"]["height"]) == (992, 496)
    assert len(job["warnings"]) == 2
    grey = pictures.opened(storage.objects[f"inputs/{job['id']}/mask.png"])
    assert [grey.getpixel(at) for at in ((0, 0), (1, 0))] == [255, 0]


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({"prompt": None, "model_name": 4}, {"prompt", "model_name"}),
        ({"width": 1023}, {"width"}),
        ({"num_steps": 101}, {"num_steps"}),
        ({"steps": 101}, {"steps"}),
        ({"cfg_scale": 50}, {"cfg_scale"}),
        ({"seed": -1}, {"seed"}),
        ({"model_name": "SD1.5"}, {"model_name"}),
        ({"mask_image": "aGk=", "input_image": "aGk="}, {"mask_image"}),
        ({"input_image": "aGk="}, {"input_image"}),
        ({"enable_refiner": True}, {"enable_refiner"}),
        ({"sampler": "DPM++", "lora": {}, "prompt_2": "x"}, {"sampler", "lora", "prompt_2"}),
    ],
)
def test_a_wrong_request_has_its_shape_and_its_names(
    client: FlaskClient, more: dict[str, Any], fields: set[str]
) -> None:
    answer = client.post(PATH, json={"model_name": SDXL, "prompt": "x", **more})
    assert answer.status_code == 422
    error = answer.json["error"]
    assert error["type"] == "invalid_request_error"
    assert set(error["errors"]) == fields
    assert all(field in error["message"] for field in fields)


@pytest.mark.usefixtures("working")
def test_other_errors_have_its_shape_as_well(client: FlaskClient) -> None:
    stranger = client.application.test_client()
    assert stranger.post(PATH, json={}).json["error"]["code"] == "unauthenticated"
    failed = client.post(PATH, json={"model_name": SDXL, "prompt": "fail: out_of_memory"})
    assert (failed.status_code, failed.json["error"]["code"]) == (502, "render_failed")
    assert failed.json["error"]["failure"] == "out_of_memory"


def test_respond_async_gives_the_job(client: FlaskClient) -> None:
    answer = client.post(PATH, json={"model_name": SDXL, "prompt": "x"}, headers={"Prefer": "respond-async"})
    assert (answer.status_code, answer.json["object"]) == (202, "job")
    assert answer.headers["Location"] == answer.json["urls"]["self"]
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert answer.headers["X-Job-Id"] == answer.json["id"]


def test_without_a_size_the_pictures_have_that_of_the_input_image(client: FlaskClient) -> None:
    body = {"model_name": "sdxl-lightning", "prompt": "x", "input_image": base64_text(pictures.png(512, 384))}
    asked = client.post(PATH, json=body, headers={"Prefer": "respond-async"}).json["input"]
    assert (asked["width"], asked["height"]) == (512, 384)


def test_a_picture_that_is_not_ready_in_time_is_504_with_the_job(client: FlaskClient) -> None:
    answer = client.post(PATH, json={"model_name": SDXL, "prompt": "x"}, headers={"Prefer": "wait=1"})
    error = answer.json["error"]
    assert (answer.status_code, error["code"]) == (504, "wait_timeout")
    assert error["job_id"] in error["message"]
    assert client.get(f"/v1/jobs/{error['job_id']}").json["status"] == "queued"
    wanted = {"Prefer": "respond-async, wait=1"}
    assert client.post(PATH, json={"model_name": SDXL, "prompt": "x"}, headers=wanted).status_code == 202


def test_a_cancelled_job_is_409(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def cancelled(_events: Any, job_id: str, _timeout_s: float) -> bool:
        client.application.extensions["rendermill"].scheduler.cancel(job_id, "alice")
        return True

    monkeypatch.setattr("shared.events.Events.wait_until_finished", cancelled)
    answer = client.post(PATH, json={"model_name": SDXL, "prompt": "x"})
    assert (answer.status_code, answer.json["error"]["code"]) == (409, "conflict")

"""The OpenAI dialect, field by field. (Its SDK is tried against a live server in test_openai_sdk.)"""

from __future__ import annotations

import base64
import io
import itertools
import json
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image

from tests.memory_storage import MemoryStorage
from tests.unit.api import pictures
from tests.unit.api.pictures import base64_text

PATH = "/v1/images/generations"
PREFIXES = ("/v1", "/api", "/api/v1", "/api/v2")
B64 = {"prompt": "x", "size": "256x256", "response_format": "b64_json"}


def job_of(client: FlaskClient, answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/jobs/{answer.headers['X-Job-Id']}").json
    return found


@pytest.mark.usefixtures("working")
@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_seeds_first_example(client: FlaskClient, prefix: str) -> None:
    prompt = "A photorealistic image of a cat programming on a laptop"
    answer = client.post(f"{prefix}/images/generations", json={"prompt": prompt, "n": 1, "size": "1024x1024"})
    assert answer.status_code == 200, answer.text
    assert set(answer.json) == {"created", "data"}
    assert isinstance(answer.json["created"], int)
    ((url,),) = [list(image.values()) for image in answer.json["data"]]
    file = client.application.test_client().get(url)
    assert pictures.opened(file.data).size == (1024, 1024)
    assert file.content_type == "image/png"
    assert job_of(client, answer)["model"] == "ByteDance/SDXL-Lightning"


@pytest.mark.usefixtures("working")
def test_the_seeds_second_example(client: FlaskClient) -> None:
    body = {
        "model": "dall-e-3",
        "prompt": "An oil painting of a futuristic city skyline at sunset, with flying cars",
        "n": 1,
        "size": "1792x1024",
        "quality": "hd",
        "style": "vivid",
        "response_format": "b64_json",
    }
    answer = client.post("/api/images/generations", json=body)
    assert pictures.opened(base64.b64decode(answer.json["data"][0]["b64_json"])).size == (1792, 1024)
    assert job_of(client, answer)["model"] == "black-forest-labs/FLUX.1-schnell"


@pytest.mark.usefixtures("working")
def test_a_gpt_image_model_answers_base64_with_its_fields(client: FlaskClient) -> None:
    body = {
        "model": "gpt-image-1",
        "prompt": "x",
        "size": "auto",
        "quality": "low",
        "background": "auto",
        "moderation": "low",
        "output_format": "webp",
        "output_compression": 0,
        "user": "u",
        "partial_images": 0,
    }
    answer = client.post(PATH, json=body).json
    assert pictures.opened(base64.b64decode(answer["data"][0]["b64_json"])).format == "WEBP"
    assert (answer["size"], answer["quality"], answer["output_format"]) == ("1024x1024", "low", "webp")
    assert (answer["background"], answer["usage"]["total_tokens"]) == ("opaque", 0)
    assert "url" in client.post(PATH, json={**body, "response_format": "url"}).json["data"][0]


@pytest.mark.usefixtures("working")
def test_the_extensions_reach_the_job(client: FlaskClient) -> None:
    body = {
        **B64,
        "model": "sdxl-base",
        "n": 3,
        "seed": 40,
        "negative_prompt": "blue",
        "num_inference_steps": 12,
        "guidance_scale": 3.5,
    }
    answer = client.post(PATH, json=body)
    assert len(answer.json["data"]) == 3
    job = job_of(client, answer)
    assert [image["seed"] for image in job["images"]] == [40, 41, 42]
    asked = job["input"]
    assert (asked["num_steps"], asked["guidance_scale"], asked["negative_prompt"]) == (12, 3.5, "blue")


@pytest.mark.usefixtures("working")
def test_camel_case_names_are_understood(client: FlaskClient) -> None:
    answer = client.post("/api/v2/images/generations", json={"prompt": "x", "responseFormat": "b64_json"})
    assert list(answer.json["data"][0]) == ["b64_json"]


@pytest.mark.usefixtures("working")
@pytest.mark.parametrize("wrap", [lambda image: image, lambda image: [image]])
def test_an_image_makes_a_generation_an_edit(client: FlaskClient, wrap: Any) -> None:
    answer = client.post(PATH, json={**B64, "image": wrap(base64_text(pictures.png()))})
    assert answer.status_code == 200, answer.text
    assert job_of(client, answer)["input"]["strength"] == 0.6


# Edits


def mask_with_hole() -> Image.Image:
    mask = Image.new("RGBA", (64, 48), (0, 0, 0, 255))
    mask.putpixel((0, 0), (0, 0, 0, 0))
    return mask


def check_edit(client: FlaskClient, storage: MemoryStorage, answer: Any) -> None:
    assert answer.status_code == 200, answer.text
    job = job_of(client, answer)
    assert job["model"] == "black-forest-labs/FLUX.1-Fill-dev"
    grey = pictures.opened(storage.objects[f"inputs/{job['id']}/mask.png"])
    assert [grey.getpixel(at) for at in ((0, 0), (1, 0))] == [255, 0], "what was transparent is repainted"


@pytest.mark.usefixtures("working")
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("field", ["image", "image[]"])
def test_a_form_edits_what_is_transparent_in_the_mask(
    client: FlaskClient, storage: MemoryStorage, prefix: str, field: str
) -> None:
    form = {
        **B64,
        "n": "2",
        "seed": "5",
        "stream": "false",
        "guidance_scale": "25.5",
        field: (io.BytesIO(pictures.png()), "fox.png"),
        "mask": (io.BytesIO(pictures.encoded(mask_with_hole())), "mask.png"),
    }
    answer = client.post(f"{prefix}/images/edits", data=form)
    check_edit(client, storage, answer)
    assert [image["seed"] for image in job_of(client, answer)["images"]] == [5, 6]


@pytest.mark.usefixtures("working")
def test_a_json_body_edits_as_well(client: FlaskClient, storage: MemoryStorage) -> None:
    form = {"image": (io.BytesIO(pictures.png()), "x"), "name": "x"}
    image_id = client.post("/v1/images/upload", data=form).json["id"]
    mask = f"data:image/png;base64,{base64_text(pictures.encoded(mask_with_hole()))}"
    body = {**B64, "images": [{"file_id": image_id}], "mask": {"image_url": mask}}
    check_edit(client, storage, client.post("/v1/images/edits", json=body))


@pytest.mark.usefixtures("working")
def test_an_edit_without_a_mask_redraws_the_image(client: FlaskClient) -> None:
    form = {**B64, "image": (io.BytesIO(pictures.png()), "fox.png"), "model": "gpt-image-1"}
    assert job_of(client, client.post("/v1/images/edits", data=form))["model"] == "black-forest-labs/FLUX.1-schnell"


@pytest.mark.usefixtures("working")
@pytest.mark.parametrize("size", [{}, {"size": "auto"}])
def test_an_edit_without_a_size_has_that_of_its_image(client: FlaskClient, size: dict[str, str]) -> None:
    form = {"prompt": "x", "response_format": "b64_json", **size, "image": (io.BytesIO(pictures.png(512, 384)), "x")}
    (image,) = job_of(client, client.post("/v1/images/edits", data=form))["images"]
    assert (image["width"], image["height"]) == (512, 384)


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"prompt": "x"}, "image"),
        ({"image": (b"hello", "x.png")}, "prompt"),
        ({"prompt": "x", "image": (b"hello", "x.png")}, "image"),
        ({"prompt": "x", "image": (b"", "x.png"), "n": "two"}, "n"),
        ({"prompt": "x", "image": (b"", "x.png"), "n": "11"}, "n"),
        ({"prompt": "x", "image": (b"", "x.png"), "stream": "maybe"}, "stream"),
        ({"prompt": "x", "image[]": [(b"a", "x.png"), (b"b", "y.png")]}, "image"),
        ({"prompt": "x", "image": (pictures.png(), "x.png"), "mask": (pictures.png(), "x.png")}, "mask"),
        ({"prompt": "x", "image": (pictures.png(), "x.png"), "colour": "red"}, "colour"),
    ],
)
def test_a_wrong_form_is_400_with_its_param(client: FlaskClient, form: dict[str, Any], param: str) -> None:
    def file(value: Any) -> Any:
        if isinstance(value, list):
            return [file(item) for item in value]
        return (io.BytesIO(value[0]), value[1]) if isinstance(value, tuple) else value

    data = {name: file(value) for name, value in form.items()}
    answer = client.post("/v1/images/edits", data=data, content_type="multipart/form-data")
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param), answer.text


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"images": []}, "images"),
        ({"images": [{}]}, "images.0"),
        ({"images": [{"image_url": "x", "file_id": "y"}]}, "images.0"),
        ({"images": [{"image_url": "aGk="}, {"image_url": "aGk="}]}, "images"),
        ({"images": [{"image_url": "aGk="}], "mask": "aGk="}, "mask"),
        ({"images": [{"image_url": "aGk="}]}, "image"),
    ],
)
def test_a_wrong_json_edit_is_400_with_its_param(client: FlaskClient, body: dict[str, Any], param: str) -> None:
    answer = client.post("/v1/images/edits", json={"prompt": "x", **body})
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param), answer.text


# Errors


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"prompt": None}, "prompt", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 11}, "n", "invalid_value"),
        ({"n": "1"}, "n", "invalid_value"),
        ({"size": "1023x1024"}, "size", "invalid_value"),
        ({"size": "4096x4096"}, "size", "invalid_value"),
        ({"size": "large"}, "size", "invalid_value"),
        ({"size": 512}, "size", "invalid_value"),
        ({"response_format": "gif"}, "response_format", "invalid_value"),
        ({"background": "transparent"}, "background", "invalid_value"),
        ({"seed": -1}, "seed", "invalid_value"),
        ({"seed": 2**63}, "seed", "invalid_value"),
        ({"seed": 2**63 - 1, "n": 2}, "seed", "invalid_value"),
        ({"num_inference_steps": 7}, "num_inference_steps", "invalid_value"),
        ({"model": "dall-e-9"}, "model", "model_not_found"),
        ({"image": ["aGk=", "aGk="]}, "image", "invalid_value"),
        ({"image": "aGk="}, "image", "bad_image"),
        ({"cfg": 1}, "cfg", "invalid_value"),
        ({"model": "flux-fill"}, "image", "invalid_value"),
    ],
)
def test_a_wrong_request_is_400_with_its_param(
    client: FlaskClient, more: dict[str, Any], param: str, code: str
) -> None:
    answer = client.post(PATH, json={**B64, **more})
    assert answer.status_code == 400
    error = answer.json["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert error["message"]


def test_other_errors_have_its_shape_as_well(client: FlaskClient) -> None:
    stranger = client.application.test_client()
    answer = stranger.post(PATH, json={})
    assert (answer.status_code, answer.json["error"]["code"]) == (401, "invalid_api_key")
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    assert client.post("/v1/images/variations").json["error"]["type"] == "invalid_request_error"
    assert client.post(PATH, data="{", headers={"Content-Type": "application/json"}).status_code == 400
    assert client.get("/api/nothing").json["error"]["code"] == "not_found"


@pytest.mark.usefixtures("working")
def test_a_failed_job_is_502_and_not_worth_another_job(client: FlaskClient) -> None:
    answer = client.post(PATH, json={**B64, "prompt": "fail: render_failed"})
    assert (answer.status_code, answer.json["error"]["type"]) == (502, "server_error")
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json["error"]["job_id"] == answer.headers["X-Job-Id"]


@pytest.mark.usefixtures("working")
def test_a_job_whose_input_cannot_be_used_is_the_clients_fault(client: FlaskClient) -> None:
    assert client.post(PATH, json={**B64, "prompt": "fail: invalid_input"}).status_code == 400


def test_respond_async_gives_the_job(client: FlaskClient) -> None:
    answer = client.post(PATH, json=B64, headers={"Prefer": "respond-async"})
    assert (answer.status_code, answer.json["object"]) == (202, "job")
    assert answer.headers["X-Job-Id"] == answer.json["id"]


@pytest.mark.usefixtures("working")
def test_a_repeated_request_with_the_same_key_makes_one_job(client: FlaskClient) -> None:
    first, second = (client.post(PATH, json=B64, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert first.json == second.json
    assert second.headers["Idempotent-Replayed"] == "true"
    assert len(client.get("/v1/jobs").json["data"]) == 1


# Streams


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    blocks = [dict(line.partition(": ")[::2] for line in block.splitlines()) for block in text.split("\n\n")]
    return [(block["event"], json.loads(block["data"])) for block in blocks if "data" in block]


@pytest.mark.usefixtures("working")
def test_a_stream_has_an_event_for_each_image(client: FlaskClient) -> None:
    with client.post(PATH, json={**B64, "stream": True, "n": 2, "partial_images": 2}) as answer:
        assert answer.content_type == "text/event-stream"
        found = events(answer.text)
    assert [name for name, _ in found] == ["image_generation.completed"] * 2
    for name, data in found:
        assert data["type"] == name
        assert pictures.opened(base64.b64decode(data["b64_json"])).size == (256, 256)
        assert (data["size"], data["output_format"], data["usage"]["total_tokens"]) == ("256x256", "png", 0)


@pytest.mark.usefixtures("working")
def test_what_goes_wrong_in_a_stream_is_its_last_event(client: FlaskClient) -> None:
    with client.post(PATH, json={**B64, "stream": True, "prompt": "fail: out_of_memory"}) as answer:
        assert answer.status_code == 200
        ((name, data),) = events(answer.text)
    assert (name, data["error"]["code"], data["error"]["type"]) == ("error", "render_failed", "server_error")


def test_a_stream_ends_when_its_time_is_up(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.dialects.openai_stream._HEARTBEAT_S", 0.05)
    clock = itertools.count(step=2.0)
    monkeypatch.setattr("api.dialects.openai_stream.time", SimpleNamespace(monotonic=lambda: next(clock)))
    with client.post(PATH, json={**B64, "stream": True}) as answer:
        text = answer.text
    assert text.startswith(": ")
    ((_, data),) = events(text)
    assert data["error"]["code"] == "wait_timeout"


def test_a_wrong_request_for_a_stream_is_an_ordinary_error(client: FlaskClient) -> None:
    assert client.post(PATH, json={**B64, "stream": True, "size": "1x1"}).status_code == 400

"""The IMG Processing dialect."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.unit.api import pictures

PATH = "/v1/images/imagine"


@pytest.mark.usefixtures("working")
def test_an_image_is_imagined(client: FlaskClient) -> None:
    answer = client.post(PATH, json={"name": "cat", "prompt": "a cat", "negative_prompt": "a dog", "seed": 5})
    assert answer.status_code == 201, answer.text
    image = answer.json
    assert {name: image[name] for name in ("name", "url", "width", "height", "format", "seed")} == {
        "name": "cat",
        "url": None,
        "width": 1024,
        "height": 1024,
        "format": "jpeg",
        "seed": 5,
    }
    assert image["model"] == "ByteDance/SDXL-Lightning"
    assert answer.headers["X-Job-Id"] == image["job_id"]
    file = client.get(f"/v1/images/{image['id']}/download")
    assert pictures.opened(file.data).size == (1024, 1024)
    assert client.get(f"/v1/images/{image['id']}").json == image


@pytest.mark.usefixtures("working")
@pytest.mark.parametrize(
    ("name", "model"), [("sdxl", "ByteDance/SDXL-Lightning"), ("flux", "black-forest-labs/FLUX.1-schnell")]
)
def test_its_models_are_ours_by_other_names(client: FlaskClient, name: str, model: str) -> None:
    assert client.post(PATH, json={"name": "x", "prompt": "x", "model": name}).json["model"] == model


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({}, {"name", "prompt"}),
        ({"name": "", "prompt": ""}, {"name", "prompt"}),
        ({"name": "x" * 31, "prompt": "x" * 1001}, {"name", "prompt"}),
        ({"name": "x", "prompt": "x", "negative_prompt": ""}, {"negative_prompt"}),
        ({"name": "x", "prompt": "x", "negative_prompt": "x" * 1001}, {"negative_prompt"}),
        ({"name": "x", "prompt": "x", "seed": -1}, {"seed"}),
        ({"name": "x", "prompt": "x", "seed": 2**63}, {"seed"}),
        ({"name": "x", "prompt": "x", "model": "dall-e"}, {"model"}),
        ({"name": "x", "prompt": "x", "width": 512}, {"width"}),
    ],
)
def test_a_wrong_request_is_a_validation_error_of_its_own(
    client: FlaskClient, body: dict[str, Any], names: set[str]
) -> None:
    answer = client.post(PATH, json=body)
    assert answer.status_code == 422
    assert answer.content_type == "application/json"
    assert answer.json["type"] == "https://docs.img-processing.com/errors/validation-error"
    assert (answer.json["error"], answer.json["status"]) == ("Validation Error", 422)
    assert answer.json["code"] == "invalid"
    assert {error.partition(":")[0] for error in answer.json["errors"]} == names


def test_the_limits_themselves_are_accepted(client: FlaskClient) -> None:
    body = {"name": "x" * 30, "prompt": "x" * 1000, "negative_prompt": "x" * 1000, "seed": 0}
    accepted = client.post(PATH, json=body, headers={"Prefer": "respond-async"})
    assert (accepted.status_code, accepted.headers["X-Job-Id"]) == (202, accepted.json["id"])


def test_other_errors_have_its_shape_as_well(client: FlaskClient) -> None:
    stranger = client.application.test_client()
    for answer, status in (
        (stranger.post(PATH, json={}), 401),
        (client.post(PATH, data="{", headers={"Content-Type": "application/json"}), 400),
        (client.put(PATH), 405),
    ):
        assert answer.status_code == answer.json["status"] == status
        assert set(answer.json) == {"type", "error", "status", "code", "message"}


@pytest.mark.usefixtures("working")
def test_a_failed_job_is_502_with_the_job(client: FlaskClient) -> None:
    answer = client.post(PATH, json={"name": "x", "prompt": "fail: render_failed"})
    assert (answer.status_code, answer.json["message"]) == (502, "it went wrong")
    assert client.get(f"/v1/jobs/{answer.json['job_id']}").json["status"] == "failed"

"""What the farm serves."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from shared.workers import Worker, Workers


def model(client: FlaskClient, name: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/models/{name}").json
    return found


def test_a_model_tells_what_it_takes_with_limits_and_defaults(client: FlaskClient) -> None:
    schnell = model(client, "black-forest-labs/FLUX.1-schnell")
    parameters = schnell["parameters"]
    assert parameters["width"] == {
        "type": "integer",
        "default": 1024,
        "minimum": 256,
        "maximum": 2048,
        "multiple_of": 16,
        "rounded": False,
        "max_pixels": 2097152,
    }
    assert parameters["num_steps"] == {"type": "integer", "default": 4, "minimum": 1, "maximum": 50}
    assert parameters["scheduler"] == {"type": "string", "default": "euler", "enum": ["euler"]}
    assert "mask_image" not in parameters
    assert schnell["modes"] == ["text-to-image", "image-to-image"]
    assert schnell["licence"] == "apache-2.0"
    assert "twice the rendering time" in schnell["negative_prompt_cost"]
    assert set(schnell["aliases"]["flux-schnell"]) == {"text-to-image", "image-to-image"}
    assert schnell["aliases"]["dall-e-3"]


def test_a_model_tells_which_schedulers_it_allows(client: FlaskClient) -> None:
    scheduler = model(client, "sdxl-base")["parameters"]["scheduler"]
    assert scheduler["default"] == "euler"
    assert scheduler["enum"] == ["euler", "euler_a", "dpmpp_2m_karras", "unipc", "lcm"]


def test_a_model_tells_which_adapters_there_are_for_it(client: FlaskClient) -> None:
    loras = model(client, "sdxl-base")["parameters"]["loras"]
    assert [lora["id"] for lora in loras["enum"]] == ["lcm-lora-sdxl"]
    assert loras["scale"] == {"default": 1, "minimum": -4, "maximum": 4}
    assert "loras" not in model(client, "flux-schnell")["parameters"]


def test_a_model_that_only_inpaints_says_so(client: FlaskClient) -> None:
    fill = model(client, "flux-fill")
    assert fill["id"] == "black-forest-labs/FLUX.1-Fill-dev"
    assert fill["modes"] == ["inpainting"]
    assert fill["parameters"]["mask_image"]["required"]
    assert "negative_prompt" not in fill["parameters"]
    assert fill["negative_prompt_cost"] is None
    assert fill["aliases"]["gpt-image-1"] == ["inpainting"]


@pytest.mark.parametrize("prefix", ["/v1", "/api", "/api/v1", "/api/v2"])
def test_the_list_is_that_of_the_openai_api_as_well(client: FlaskClient, prefix: str) -> None:
    body = client.get(f"{prefix}/models").json
    assert body["object"] == "list"
    assert len(body["data"]) == 4
    for entry in body["data"]:
        assert entry["object"] == "model"
        assert isinstance(entry["created"], int)
        assert entry["id"].startswith(entry["owned_by"] + "/")
        assert client.get(f"{prefix}/models/{entry['id']}").json == entry


def test_an_unknown_model_is_404_with_the_list(client: FlaskClient) -> None:
    answer = client.get("/v1/models/no/such/model")
    assert (answer.status_code, len(answer.json["models"])) == (404, 4)
    error = client.get("/api/v1/models/no/such/model").json["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "not_found")


def test_live_workers_are_counted(client: FlaskClient, redis: Redis) -> None:
    Workers(redis).beat(Worker(id="w", models=["ByteDance/SDXL-Lightning"], device="cpu", state="idle"))
    client.application.extensions["rendermill"].worker_count._asked_at = float("-inf")
    assert model(client, "sdxl-lightning")["live_workers"] == 1
    assert model(client, "flux-fill")["live_workers"] == 0

"""What bad input gets. The table of docs/api.md, row by row."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.unit.api.conftest import Post

JSON = {"Content-Type": "application/json"}
SEED_MAX = 2**63 - 1


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The problem document of an answer, which must be one of this kind."""
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    body: dict[str, Any] = answer.json
    assert body["status"] == status
    assert body["code"] == code
    assert body["type"] == f"urn:rendermill:error:{code}"
    assert body["title"]
    assert body["detail"]
    assert body["instance"] == answer.headers["X-Request-Id"]
    return body


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[1,]", "{'a': 1}", '{"seed": NaN}', '{"seed": Infinity}', "\x80", "nothing"),
        "[" * 100_000,
        '{"seed": ' + "9" * 10_000 + "}",
    ],
)
def test_what_is_no_json_is_400(client: FlaskClient, text: str) -> None:
    problem(client.post("/v1/jobs", data=text.encode("latin-1"), headers=JSON), 400, "bad_json")


def test_another_content_type_is_415(client: FlaskClient) -> None:
    problem(client.post("/v1/jobs", data={"prompt": "x"}), 415, "unsupported_media_type")
    problem(client.post("/v1/images/upload", json={"name": "x"}), 415, "unsupported_media_type")


@pytest.mark.parametrize("body", [[], "text", 4, None, True])
def test_json_that_is_no_object_is_422(client: FlaskClient, body: Any) -> None:
    answer = problem(client.post("/v1/jobs", data=json.dumps(body), headers=JSON), 422, "invalid")
    assert answer["errors"] == {"body": ["must be a JSON object"]}
    assert answer["detail"] == "body: must be a JSON object."


@pytest.mark.parametrize(
    ("path", "field", "words"),
    [
        ("/v1/jobs", "promt", "is unknown; did you mean prompt?"),
        ("/v1/jobs", "numSteps", "is unknown; did you mean num_steps?"),
        ("/v1/images/generations", "prommpt", "is unknown; did you mean prompt?"),
        ("/v1/image/generation", "Width", "is unknown; did you mean width?"),
        ("/v1/images/imagine", "xyz", "is unknown; known are model, name, negative_prompt, prompt, seed"),
    ],
)
def test_an_unknown_field_is_told_what_may_have_been_meant(
    client: FlaskClient, path: str, field: str, words: str
) -> None:
    assert f"{field}: {words}" in client.post(path, json={field: 1}).text


def test_an_unknown_field_of_a_query_is_told_so_as_well(client: FlaskClient) -> None:
    answer = problem(client.get("/v1/jobs?stauts=queued"), 422, "invalid")
    assert answer["errors"] == {"stauts": ["is unknown; did you mean status?"]}


def test_the_detail_tells_three_fields_and_how_many_more(submit: Post) -> None:
    answer = problem(submit(n=0, seed=-1), 422, "invalid")
    assert answer["detail"] == f"seed: must be between 0 and {SEED_MAX}; n: must be between 1 and 10."
    many = problem(submit(n=0, seed=-1, name="", priority="x", prompt=""), 422, "invalid")
    assert many["detail"].count(":") == 3
    assert many["detail"].endswith("; and 2 more fields, see 'errors'.")


def test_numbers_are_told_as_people_write_them(submit: Post) -> None:
    assert problem(submit(deadline_s=1e9), 422, "invalid")["detail"] == "deadline_s: must be between 1 and 2592000."


def test_a_private_address_is_told_the_setting_that_would_allow_it(submit: Post) -> None:
    answer = problem(submit(webhook_url="https://10.0.0.1/"), 422, "invalid")
    assert "10.0.0.1 is not a public address, nor in a network of RENDERMILL_EGRESS_ALLOW" in answer["detail"]


def test_every_wrong_field_is_named_at_once(client: FlaskClient) -> None:
    body = {
        "model": "black-forest-labs/FLUX.1-Fill-dev",
        "n": "4",
        "seed": -1,
        "num_steps": 500,
        "priority": "urgent",
        "webhook_url": "ftp://example.com",
        "metadata": {"a": 1},
        "negative_prompt": "blue",
        "colour": "red",
    }
    answer = problem(client.post("/v1/jobs", json=body), 422, "invalid")
    # The schema knows most of them, the model's entry in the catalog the rest.
    by_schema = {"prompt", "n", "seed", "priority", "webhook_url", "metadata", "colour"}
    assert set(answer["errors"]) == by_schema | {"num_steps", "negative_prompt"}
    assert answer["model"] == "black-forest-labs/FLUX.1-Fill-dev"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scheduler", "heun"),
        ("scheduler", ["euler"]),
        ("loras", "lcm-lora-sdxl"),
        ("loras", [{"id": "lcm-lora-sdxl"}] * 5),
        ("prompt", ""),
        ("prompt", 5),
        ("prompt", None),
        ("prompt", "a\0b"),
        ("prompt", "half \ud83d"),
        ("prompt", "x" * 32_001),
        ("model", ["sdxl"]),
        ("n", 0),
        ("n", 11),
        ("n", True),
        ("n", "4"),
        ("n", 1.5),
        ("seed", -1),
        ("seed", SEED_MAX + 1),
        ("seed", 1e18),
        ("width", 1023),
        ("width", 0),
        ("width", 100_000),
        ("height", "256"),
        ("num_steps", 5),
        ("guidance_scale", -1),
        ("guidance_scale", 1000.5),
        ("guidance_scale", "7"),
        ("guidance_scale", True),
        ("strength", 0),
        ("strength", 1.01),
        ("output_format", "gif"),
        ("output_quality", 101),
        ("output_quality", 0),
        ("name", ""),
        ("name", "x" * 101),
        ("priority", "urgent"),
        ("webhook_url", "http://1.1.1.1/"),
        ("webhook_url", "https://10.0.0.1/"),
        ("webhook_url", "http://example.com/"),
        ("webhook_url", "https://user:pw@example.com/"),
        ("webhook_events", "job.failed"),
        ("metadata", []),
        ("metadata", {str(number): "" for number in range(17)}),
        ("metadata", {"k" * 65: ""}),
        ("metadata", {"k": "v" * 513}),
        ("metadata", {"k\0": "v"}),
        ("deadline_s", 0),
        ("deadline_s", "60"),
    ],
)
def test_a_wrong_field_is_named(submit: Post, field: str, value: Any) -> None:
    answer = problem(submit(model_check=1, **{field: value}), 422, "invalid")
    assert set(answer["errors"]) == {field, "model_check"}
    del answer["errors"]["model_check"]
    assert answer["errors"][field]


def test_a_wrong_item_of_a_list_is_named(submit: Post) -> None:
    body = {"webhook_url": "https://example.com/", "webhook_events": ["job.failed", "job.lost"]}
    answer = problem(submit(**body), 422, "invalid")
    assert list(answer["errors"]) == ["webhook_events.1"]


def test_a_width_of_1023_is_told_the_next_one_that_is_allowed(submit: Post) -> None:
    answer = problem(submit(width=1023, height=1024), 422, "invalid")
    assert answer["errors"] == {"width": ["must be a multiple of 8, such as 1016, for ByteDance/SDXL-Lightning"]}


def test_fill_rounds_to_16_instead(client: FlaskClient) -> None:
    image = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    body = {"model": "flux-fill", "prompt": "x", "input_image": image, "mask_image": image, "width": 1023}
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json["input"]["width"] == 1024
    assert "width 1023 was rounded to 1024" in answer.json["warnings"][0]


def test_the_last_seed_of_the_images_must_exist_as_well(submit: Post) -> None:
    assert submit(seed=SEED_MAX).status_code == 202
    assert submit(seed=SEED_MAX - 1, n=2).status_code == 202
    assert list(problem(submit(seed=SEED_MAX, n=2), 422, "invalid")["errors"]) == ["seed"]


def test_an_unknown_model_gets_the_list_of_models(submit: Post) -> None:
    answer = problem(submit(model="midjourney"), 422, "unknown_model")
    assert "black-forest-labs/FLUX.1-schnell" in answer["models"]
    assert list(answer["errors"]) == ["model"]
    assert "gpt-image-1" in answer["detail"]
    assert "Did you mean 'sdxl-lightning'?" in problem(submit(model="SDXL-Lightening"), 422, "unknown_model")["detail"]
    both = problem(submit(model="midjourney", n=0), 422, "invalid")
    assert set(both["errors"]) == {"model", "n"}
    assert both["models"] == answer["models"]


def test_a_parameter_that_the_model_does_not_take_is_named_with_the_model(submit: Post) -> None:
    body = {"model": "flux-fill", "input_image": "aGk=", "mask_image": "aGk=", "negative_prompt": "blue"}
    answer = problem(submit(**body), 422, "unsupported_parameter")
    assert list(answer["errors"]) == ["negative_prompt"]
    assert answer["model"] == "black-forest-labs/FLUX.1-Fill-dev"
    assert "black-forest-labs/FLUX.1-Fill-dev does not take negative_prompt" in answer["errors"]["negative_prompt"][0]


def test_a_body_over_the_limit_is_413_before_it_is_read(client: FlaskClient) -> None:
    class Unreadable:
        def read(self, *_: Any) -> bytes:
            pytest.fail("the body was read")

        readline = read

    environ = {"CONTENT_LENGTH": "400001", "wsgi.input": Unreadable()}
    answer = problem(client.post("/v1/jobs", headers=JSON, environ_overrides=environ), 413, "body_too_large")
    assert "400000 bytes, the limit RENDERMILL_MAX_BODY_BYTES" in answer["detail"]


@pytest.mark.parametrize(
    ("path", "content_type", "start"),
    [
        ("/v1/jobs", "application/json", b""),
        (
            "/v1/images/upload",
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\n',
        ),
    ],
)
def test_a_body_without_a_length_is_413_as_soon_as_it_passes_the_limit(
    client: FlaskClient, path: str, content_type: str, start: bytes
) -> None:
    class Endless:
        given = 0

        def read(self, size: int = -1) -> bytes:
            size = min(size, 65536) if size > 0 else 65536
            piece = b" " * size if self.given else start or b" "
            self.given += len(piece)
            assert self.given < 1_000_000, "the body was read on"
            return piece

    environ = {"wsgi.input": Endless(), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    answer = client.post(path, headers={"Content-Type": content_type}, environ_overrides=environ)
    problem(answer, 413, "body_too_large")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"strength": 0.5}, "strength"),
        ({"model": "flux-schnell", "strength": 0.5}, "strength"),
        ({"webhook_events": ["job.failed"]}, "webhook_events"),
        ({"webhook_events": []}, "webhook_events"),
    ],
)
def test_what_would_have_no_effect_alone_is_refused(submit: Post, body: dict[str, Any], field: str) -> None:
    answer = submit(**body)
    assert answer.status_code == 422
    assert list(answer.json["errors"]) == [field]


def test_what_a_wrong_field_goes_with_is_not_blamed(submit: Post) -> None:
    body = {"input_image": 5, "strength": 0.5, "webhook_url": 5, "webhook_events": ["job.failed"]}
    assert set(problem(submit(**body), 422, "invalid")["errors"]) == {"input_image", "webhook_url"}


def test_a_query_where_none_is_taken_is_refused(client: FlaskClient) -> None:
    body = {"model": "sdxl-lightning", "prompt": "a red fox"}
    answer = problem(client.post("/v1/jobs?wait=5&async", json=body), 422, "invalid")
    assert set(answer["errors"]) == {"wait", "async"}


def test_large_integers_are_exact(submit: Post) -> None:
    assert submit(seed=SEED_MAX).json["input"]["seed"] == SEED_MAX
    assert sys.float_info.mant_dig < 63, "a float would have rounded it"


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/jobs?limit=0", "limit"),
        ("/v1/jobs?limit=101", "limit"),
        ("/v1/jobs?limit=ten", "limit"),
        ("/v1/jobs?limit=٣", "limit"),
        ("/v1/jobs?status=done", "status"),
        ("/v1/jobs?after=last", "after"),
        ("/v1/jobs?stauts=queued", "stauts"),
        ("/v1/images?take=101", "take"),
        ("/v1/webhooks/deliveries?limit=-1", "limit"),
    ],
)
def test_a_wrong_query_is_422(client: FlaskClient, path: str, field: str) -> None:
    assert list(problem(client.get(path), 422, "invalid")["errors"]) == [field]


def test_a_path_or_method_that_does_not_exist_is_a_problem_document_as_well(client: FlaskClient) -> None:
    assert problem(client.get("/v1/nothing"), 404, "not_found")["detail"].startswith("There is nothing at /v1/nothing;")
    answer = client.put("/v1/jobs")
    problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["Allow"].split(", ")) >= {"GET", "POST"}


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("POST", "/images/generations", "/v1/images/generations"),
        ("GET", "/models", "/v1/models"),
        ("GET", "/jobs/job_1", "/v1/jobs/job_1"),
        ("POST", "/v1/v1/jobs", "/v1/jobs"),
        ("GET", "/v1/healthz", "/healthz"),
    ],
)
def test_a_base_address_that_is_off_by_a_version_is_told_so(
    client: FlaskClient, method: str, path: str, meant: str
) -> None:
    answer = problem(client.open(path, method=method), 404, "not_found")
    assert answer["detail"] == f"There is nothing at {path}; did you mean {meant}?"


def test_errors_that_the_openai_sdk_may_read_say_it_in_its_words_as_well(client: FlaskClient) -> None:
    wrong_key = problem(client.get("/v1/models", headers={"x-api-key": "rm_wrong"}), 401, "unauthenticated")
    assert wrong_key["error"]["code"] == "invalid_api_key"
    for path in ("/v1/models/midjourney", "/chat/completions", "/v1/chat/completions"):
        answer = problem(client.get(path), 404, "not_found")
        error = {"message": answer["detail"], "type": "invalid_request_error", "param": None, "code": "not_found"}
        assert answer["error"] == error
    assert "error" not in client.get("/v1/jobs/job_nothing").json


def test_a_fault_of_the_server_tells_nothing_but_its_number(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("the secret of the house")

    monkeypatch.setattr("shared.records.Records.page", fails)
    answer = client.get("/v1/jobs")
    assert "secret" not in answer.text
    assert problem(answer, 500, "internal")["instance"] in caplog.text
    assert "the secret of the house" in caplog.text


def test_a_storage_that_is_away_is_503_and_worth_a_retry(client: FlaskClient, submit: Post, storage: Any) -> None:
    storage.away = True
    body = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    answer = submit(input_image=body)
    problem(answer, 503, "not_ready")
    assert int(answer.headers["Retry-After"]) > 0
    assert client.get("/v1/jobs").json["data"] == []


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations", "/v1/image/generation", "/v1/images/imagine"])
def test_a_redis_that_is_away_is_503_in_every_shape(
    client: FlaskClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise RedisConnectionError("redis://:password@host is away")

    monkeypatch.setattr("shared.accounts.Accounts.account_of", away)
    answer = client.post(path, json={})
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "password" not in answer.text


def test_what_is_wrong_with_half_a_request_is_not_blamed_on_the_other_half(client: FlaskClient) -> None:
    body = {"model": "flux-fill", "prompt": "x", "input_image": 5, "mask_image": "aGk="}
    assert problem(client.post("/v1/jobs", json=body), 422, "invalid")["errors"] == {
        "input_image": ["must be a string"]
    }


@pytest.mark.parametrize("path", ["/api/models/%0A", "/v1/files/%0A", "/v1/batches/%0A", "/v1/models/%0A"])
def test_a_line_break_in_a_path_does_not_change_the_shape_of_its_error(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json is not None
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert answer.content_type == client.get(path.replace("%0A", "x")).content_type

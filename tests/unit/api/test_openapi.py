"""The specification: complete, valid, true, and with a page of its own."""

from __future__ import annotations

import re
from typing import Any

import pytest
import schemathesis
from fakeredis import FakeRedis, FakeServer
from flask import Flask, request
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, settings
from jsonschema import Draft202012Validator
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.app import create_app
from shared.accounts import Accounts
from tests.memory_storage import MemoryStorage
from tests.unit.api.test_auth import PUBLIC
from tests.unit.api.uploads import upload
from tests.unit.conftest import SETTINGS

#: Routes that are no part of the API.
UNDOCUMENTED = {"/", "/openapi.json", "/docs", "/docs/start.js", "/docs/assets/<name>"}


@pytest.fixture
def spec(anonymous: FlaskClient) -> dict[str, Any]:
    found: dict[str, Any] = anonymous.get("/openapi.json").json
    return found


def test_every_route_is_documented(app: Flask, spec: dict[str, Any]) -> None:
    assert spec["openapi"] == "3.1.0"
    for rule in app.url_map.iter_rules():
        if rule.rule in UNDOCUMENTED:
            continue
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
            operation = spec["paths"][path][method.lower()]
            assert operation["summary"]
            assert (operation.get("security") == []) == (rule.rule in PUBLIC), rule.rule


def test_its_schemas_are_json_schemas(spec: dict[str, Any]) -> None:
    for schema in spec["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_who_comes_to_the_front_is_led_to_the_page(anonymous: FlaskClient) -> None:
    answer = anonymous.get("/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/docs")


def test_requests_from_its_page_go_where_the_page_came_from(spec: dict[str, Any], anonymous: FlaskClient) -> None:
    assert [server["url"] for server in spec["servers"]] == ["/"]
    assert "connect-src 'self'" in anonymous.get("/docs").headers["Content-Security-Policy"]


def test_its_page_needs_nothing_from_elsewhere(anonymous: FlaskClient) -> None:
    page = anonymous.get("/docs")
    assert page.content_type.startswith("text/html")
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(addresses) == 3
    for address in addresses:
        with anonymous.get(address) as asset:
            assert asset.status_code == 200
            assert asset.data
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert anonymous.get("/docs/assets/../../app.py").status_code == 404


def test_its_examples_work(client: FlaskClient, spec: dict[str, Any]) -> None:
    tried = set()
    for path, operations in spec["paths"].items():
        body = operations.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json")
        if body is None:
            continue
        example = body["example"]
        if path == "/v1/batches":
            example |= {"input_file_id": upload(client).json["id"]}
        answer = client.post(path, json=example, headers={"Prefer": "respond-async"})
        assert answer.status_code in {200, 201, 202}, f"{path}: {answer.text}"
        tried.add(path)
    assert {"/v1/jobs", "/v1/webhooks", "/v1/images/edits", "/v1/image/generation", "/v1/images/imagine"} <= tried


def impatient_farm() -> tuple[Flask, str]:
    """A front door of its own for the generated requests, at which nobody waits: there is no worker."""
    redis: Any = FakeRedis(server=FakeServer(), decode_responses=True)
    app = create_app(SETTINGS, redis, MemoryStorage(), lambda *_: None)
    app.before_request_funcs.setdefault(None, []).append(prefer_no_wait)
    return app, Accounts(redis).create_key("alice")


def prefer_no_wait() -> None:
    request.environ["HTTP_PREFER"] = "respond-async"


FARM, KEY = impatient_farm()
SCHEMA = schemathesis.openapi.from_wsgi("/openapi.json", FARM)


@SCHEMA.exclude(path_regex="/(events|generations|edits)$").parametrize()
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_server_does_what_its_specification_says(case: Any) -> None:
    case.call_and_validate(
        headers={"x-api-key": KEY},
        checks=[not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance],
    )

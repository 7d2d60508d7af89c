"""Which farm a command speaks to, with which key, and what it says where that does not go well."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import httpx
import pytest
from typer.testing import Result

from client import Client, connection
from client.exit_codes import ExitCode
from tests.unit.fake_api import FakeApi, run

NO_JOBS = {"data": [], "links": {"next": None}}


@pytest.fixture(autouse=True)
def empty_folder(api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A farm without jobs, and no farm of an earlier run in this folder."""
    api.answers["GET /v1/jobs"] = NO_JOBS
    monkeypatch.chdir(tmp_path)


def one_error_line(result: Result, code: ExitCode) -> str:
    assert result.exit_code == code, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("rendermill: ")
    assert result.stdout == ""
    return line


def test_address_and_key_come_from_options_before_the_environment(api: FakeApi) -> None:
    for options in ([], ["--url", "https://other.test", "--api-key", "rm_other"]):
        assert run("jobs", *options).exit_code == ExitCode.OK
    assert [(request.url.host, request.headers["authorization"]) for request in api.requests] == [
        ("farm.test", "Bearer rm_key"),
        ("other.test", "Bearer rm_other"),
    ]


def test_the_address_and_the_key_of_a_farm_on_this_machine_are_found(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RENDERMILL_API_KEY")
    monkeypatch.delenv("RENDERMILL_URL")
    words = one_error_line(run("jobs"), ExitCode.UNAUTHENTICATED)
    assert all(word in words for word in ("--data-dir", "--url", "--api-key", ".rendermill/api-key"))
    for directory, options in ((".rendermill", []), ("other", ["--data-dir", "other"])):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "api-key").write_text("rm_key")
        (tmp_path / directory / "farm.json").write_text(json.dumps({"url": f"http://{directory.strip('.')}.test"}))
        assert run("jobs", *options).exit_code == ExitCode.OK
    assert [request.url.host for request in api.requests] == ["rendermill.test", "other.test"]


def test_the_address_may_end_as_the_base_url_of_an_sdk_does(api: FakeApi) -> None:
    assert run("jobs", "--url", "http://farm.test/v1/").exit_code == ExitCode.OK
    assert api.requests[0].url.path == "/v1/jobs"


def test_an_address_that_is_none_is_one_clear_line(api: FakeApi) -> None:
    line = one_error_line(run("jobs", "--url", "127.0.0.1:8080"), ExitCode.USAGE)
    assert "127.0.0.1:8080 is no address" in line
    assert api.requests == []


def test_a_wrong_key_is_one_clear_line_that_says_where_another_is_given(api: FakeApi) -> None:
    api.answers["GET /v1/jobs"] = httpx.Response(401, json={"code": "unauthenticated", "detail": "Send a header."})
    line = one_error_line(run("jobs"), ExitCode.UNAUTHENTICATED)
    assert "does not know this API key" in line
    assert "RENDERMILL_API_KEY" in line


def test_a_farm_that_is_not_there_is_one_clear_line_that_says_how_to_start_one(api: FakeApi) -> None:
    def nobody(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused", request=request)

    api.answers["GET /v1/jobs"] = nobody
    line = one_error_line(run("jobs"), ExitCode.UNAVAILABLE)
    assert "No farm answers at http://farm.test" in line
    assert "'rendermill up'" in line


@pytest.mark.parametrize(
    "arguments",
    [
        *("jobs", "batches", "files", "models", "account", "webhooks", "webhooks deliveries", "webhooks secret"),
        *("show job_x", "show batch_x", "show image_x", "show file_x", "models show x", "watch job_x", "cancel job_x"),
        *("cancel batch_x", "download job_x", "download image_x", "webhooks create https://x.test"),
    ],
)
@pytest.mark.parametrize(
    "answer",
    [
        *("hello", [], {}, {"data": 5}, {"data": [{"id": 5}]}, {"id": "x", "status": None}),
        # What files are named after must not lead into other folders.
        {"id": "image_x", "format": "/../../x"},
    ],
)
def test_what_answers_and_is_no_farm_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, arguments: str, answer: object
) -> None:
    stranger = httpx.MockTransport(lambda _: httpx.Response(200, json=answer))
    monkeypatch.setattr(connection, "Client", partial(Client, transport=stranger))
    assert "no farm of Rendermill, or one of another version" in one_error_line(
        run(*arguments.split()), ExitCode.FAILED
    )


def test_a_page_in_place_of_json_is_one_clear_line(api: FakeApi) -> None:
    api.answers["GET /v1/jobs"] = httpx.Response(200, text="<html>")
    assert "http://farm.test/v1/jobs" in one_error_line(run("jobs"), ExitCode.FAILED)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--url", "http://host:port"], "http://host:port is no address"),
        (["--api-key", "schlüssel"], "a character that no key has"),
        (["--api-key", "two\nlines"], "a character that no key has"),
    ],
)
def test_an_address_or_a_key_that_cannot_be_sent_is_one_clear_line(
    api: FakeApi, options: list[str], words: str
) -> None:
    assert words in one_error_line(run("jobs", *options), ExitCode.FAILED)
    assert api.requests == []


@pytest.mark.parametrize(("name", "content"), [("farm.json", b"[]"), ("farm.json", b"{"), ("api-key", b"\xff")])
@pytest.mark.usefixtures("api")
def test_a_data_directory_that_cannot_be_read_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, content: bytes
) -> None:
    monkeypatch.delenv("RENDERMILL_API_KEY")
    monkeypatch.delenv("RENDERMILL_URL")
    (tmp_path / "api-key").write_text("rm_key")
    (tmp_path / name).write_bytes(content)
    assert f"{name} cannot be read" in one_error_line(run("jobs", "--data-dir", str(tmp_path)), ExitCode.FAILED)


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, ExitCode.FAILED), (404, ExitCode.NOT_FOUND), (410, ExitCode.NOT_FOUND), (500, ExitCode.FAILED)]
    + [(status, ExitCode.UNAVAILABLE) for status in (429, 502, 503, 504)],
)
def test_the_exit_code_follows_from_the_farms_answer(api: FakeApi, status: int, code: ExitCode) -> None:
    api.answers["GET /v1/jobs"] = httpx.Response(status, json={"code": "x", "detail": "This is why."})
    assert "This is why." in one_error_line(run("jobs"), code)


def test_a_wrong_field_is_told_once(api: FakeApi) -> None:
    problem = {"code": "invalid", "detail": "status: must be one.", "errors": {"status": ["must be one."]}}
    api.answers["GET /v1/jobs"] = httpx.Response(422, json=problem)
    assert one_error_line(run("jobs"), ExitCode.FAILED) == "rendermill: status: must be one."


def test_ctrl_c_is_one_line_and_its_own_exit_code(api: FakeApi) -> None:
    def interrupted(_: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    api.answers["GET /v1/jobs"] = interrupted
    assert "what was submitted goes on" in one_error_line(run("jobs"), ExitCode.INTERRUPTED)


def test_a_farm_that_is_restarted_is_waited_for(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PATIENCE_S", 60.0)
    monkeypatch.setattr("client.retry.FIRST_WAIT_S", 0.01)
    answers = [httpx.Response(503, json={}), httpx.Response(200, json=NO_JOBS)]
    api.answers["GET /v1/jobs"] = lambda _: answers.pop(0)
    assert run("jobs").exit_code == ExitCode.OK

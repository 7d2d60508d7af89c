"""The client's commands: what they print, and that every error is one line and an exit code."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from farm.cli import app


class FakeFarm(HTTPServer):
    """Finishes every job at once; refuses the prompt "bad", and fails the prompt "doomed"."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, httpx.Headers, dict[str, Any]]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeFarm

    def do_GET(self) -> None:
        if self.headers["authorization"] != "Bearer rm_key":
            self._answer(401, {"code": "unauthenticated", "detail": "This key is not known."})
        elif self.path.endswith("/download"):
            self._send(200, b"picture", "image/png")
        elif self.path.startswith("/v1/models"):
            self._answer(200, {"data": [{"id": "acme/model", "aliases": ["am"], "modes": ["text-to-image"]}]})
        elif self.path.startswith("/v1/jobs/"):
            self._answer(200, _job(self.path.rpartition("/")[2], "succeeded"))
        else:
            self._answer(200, {"data": [_job("job_a", "running")], "links": {"next": None}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        self.server.requests.append(("POST", self.path, httpx.Headers(self.headers.items()), body))
        if body.get("prompt") == "bad":
            self._answer(422, {"code": "invalid", "detail": "Wrong: prompt."})
        elif body.get("prompt") == "doomed":
            self._answer(202, _job("job_doomed", "failed", error={"code": "x", "message": "out of paint"}))
        elif self.path.endswith("/cancel"):
            self._answer(200, _job(self.path.split("/")[-2], "canceled"))
        else:
            self._answer(202, _job(f"job_{len(self.server.requests)}", "queued"))

    def _answer(self, status: int, body: Any) -> None:
        self._send(status, json.dumps(body).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _job(id_: str, status: str, **more: Any) -> dict[str, Any]:
    image = {"id": f"image_of_{id_}", "format": "png"}
    images = [image] if status == "succeeded" else []
    return {"id": id_, "object": "job", "status": status, "model": "m", "images": images, **more}


@pytest.fixture
def farm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeFarm]:
    monkeypatch.chdir(tmp_path)
    with FakeFarm() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("RENDERMILL_URL", server.url)
        monkeypatch.setenv("RENDERMILL_API_KEY", "rm_key")
        yield server
        server.shutdown()
        thread.join()


def _run(*arguments: str, input: str | None = None) -> Result:  # noqa: A002 - as CliRunner calls it
    return CliRunner().invoke(app, list(arguments), input=input)


def _one_error_line(result: Result) -> str:
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    return line


def test_submit_prints_each_job_and_asks_every_route_not_to_wait(farm: FakeFarm) -> None:
    lines = '{"prompt": "a"}\n{"url": "/v1/images/imagine", "headers": {"prefer": "wait=9"}, "body": {"prompt": "b"}}\n'
    result = _run("submit", "-", input=lines)
    assert result.exit_code == 0, result.output
    assert result.stdout == "job_1  queued\njob_2  queued\n"
    assert [(path, body) for _, path, _, body in farm.requests] == [
        ("/v1/jobs", {"prompt": "a"}),
        ("/v1/images/imagine", {"prompt": "b"}),
    ]
    assert all(headers["prefer"] == "respond-async" for _, _, headers, _ in farm.requests)


def test_submit_saves_the_pictures_under_the_names_of_their_lines(farm: FakeFarm, tmp_path: Path) -> None:
    (tmp_path / "lines.jsonl").write_text(
        '{"prompt": "a"}\n{"url": "/v1/jobs", "custom_id": "../two", "body": {"prompt": "b"}}\n'
    )
    result = _run("submit", "lines.jsonl", "--out", "pictures")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["00001-0.png", "_two-0.png"]
    assert (tmp_path / "pictures" / "00001-0.png").read_bytes() == b"picture"
    assert not list(tmp_path.glob("two*"))
    assert len(farm.requests) == 2


def test_a_refused_line_does_not_hold_up_the_others(farm: FakeFarm) -> None:
    result = _run("submit", "-", "--wait", input='{"prompt": "bad"}\n{"prompt": "good"}\n')
    assert result.exit_code == 1
    assert "line 1: Wrong: prompt." in result.stderr
    assert "job_2  succeeded" in result.stdout
    assert len(farm.requests) == 2


def test_a_failed_job_is_told_with_its_reason(farm: FakeFarm) -> None:
    result = _run("submit", "-", "--wait", input='{"prompt": "doomed"}\n')
    assert result.exit_code == 1
    assert "job_doomed  failed  out of paint" in result.stdout
    assert farm.requests


@pytest.mark.usefixtures("farm")
def test_jobs_models_and_cancel_show_what_the_farm_says() -> None:
    assert "job_a" in _run("jobs").stdout
    assert "acme/model" in _run("models").stdout
    assert _run("cancel", "job_x", "job_y").stdout == "job_x  canceled\njob_y  canceled\n"


@pytest.mark.usefixtures("farm")
def test_json_is_one_object_a_line() -> None:
    for command in (["jobs"], ["models"], ["cancel", "job_x"]):
        result = _run(*command, "--json")
        assert [json.loads(line)["id"] for line in result.stdout.splitlines()], result.output


@pytest.mark.usefixtures("farm")
def test_a_wrong_key_is_one_clear_line() -> None:
    assert _one_error_line(_run("jobs", "--api-key", "rm_wrong")) == "rendermill: This key is not known."


@pytest.mark.usefixtures("farm")
def test_the_key_of_a_farm_in_this_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RENDERMILL_API_KEY")
    assert "API key is needed" in _one_error_line(_run("jobs"))
    (tmp_path / ".rendermill").mkdir()
    (tmp_path / ".rendermill" / "api-key").write_text("rm_key")
    assert _run("jobs").exit_code == 0


def test_a_farm_that_is_not_there_is_one_clear_line() -> None:
    line = _one_error_line(_run("jobs", "--url", "http://127.0.0.1:9", "--api-key", "k"))
    assert "No farm answers at http://127.0.0.1:9" in line


def test_an_address_that_is_none_is_one_clear_line() -> None:
    assert "127.0.0.1" in _one_error_line(_run("jobs", "--url", "127.0.0.1:8080", "--api-key", "k"))


@pytest.mark.usefixtures("farm")
def test_a_file_that_is_not_there_is_one_clear_line() -> None:
    assert "missing.jsonl cannot be read" in _one_error_line(_run("submit", "missing.jsonl"))


@pytest.mark.usefixtures("farm")
def test_a_line_that_is_no_request_is_one_clear_line() -> None:
    assert "line 1 is not JSON" in _one_error_line(_run("submit", "-", input="{nonsense"))

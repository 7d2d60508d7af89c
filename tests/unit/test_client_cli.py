"""The client's commands: what they print, and that every error is one line and an exit code."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from client import connection, retry
from farm.cli import app

BUSY = {"code": "busy", "detail": "Too much waits already."}


class FakeFarm(HTTPServer):
    """Finishes every job at once; refuses the prompt "bad", and fails the prompt "doomed".

    Knows the jobs that it made by their idempotency keys. `troubles` are what the next submissions meet instead of
    an answer: an HTTP status, or 0 for a connection that breaks; the job is made all the same.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, httpx.Headers, dict[str, Any]]] = []
        self.made: dict[str, str] = {}
        self.troubles: list[int] = []
        #: From this many jobs on, all submissions are answered 503.
        self.full_at = 1000
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
            self._send(200, b"picture", "image/png", {})
        elif self.path.startswith("/v1/models"):
            self._answer(200, {"data": [{"id": "acme/model", "aliases": ["am"], "modes": ["text-to-image"]}]})
        elif self.path.startswith("/v1/images/"):
            self._answer(200, {"id": self.path.rpartition("/")[2], "format": "webp"})
        elif self.path == "/v1/jobs/job_late":
            self._answer(200, _job("job_late", "queued"))
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
            self._accept(self.headers["idempotency-key"])

    def _accept(self, key: str) -> None:
        if len(self.server.made) >= self.server.full_at:
            self._answer(503, BUSY)
            return
        replayed = key in self.server.made
        id_ = self.server.made.setdefault(key, f"job_{len(self.server.made) + 1}")
        trouble = self.server.troubles.pop(0) if self.server.troubles else None
        if trouble:
            self._answer(trouble, BUSY, {"Retry-After": "0"})
        elif trouble is None:
            self._answer(202, _job(id_, "queued"), {"Idempotent-Replayed": "true"} if replayed else {})

    def _answer(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, json.dumps(body).encode(), "application/json", headers or {})

    def _send(self, status: int, body: bytes, kind: str, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
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
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(connection, "PATIENCE_S", 1.0)
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


def test_submit_saves_the_pictures_under_the_numbers_and_names_of_their_lines(farm: FakeFarm, tmp_path: Path) -> None:
    (tmp_path / "lines.jsonl").write_text(
        '{"prompt": "a"}\n{"url": "/v1/jobs", "custom_id": "../two", "body": {"prompt": "b"}}\n'
        '{"prompt": "c", "name": "Three foxes"}\n{"prompt": "d", "name": "Three foxes"}\n'
    )
    result = _run("submit", "lines.jsonl", "--out", "pictures")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [
        "00001-0.png",
        "00002-two-0.png",
        "00003-Three-foxes-0.png",
        "00004-Three-foxes-0.png",
    ]
    assert (tmp_path / "pictures" / "00001-0.png").read_bytes() == b"picture"
    assert not list(tmp_path.glob("*two*"))
    assert len(farm.requests) == 4


def test_a_file_that_is_submitted_again_leads_to_the_same_jobs(farm: FakeFarm) -> None:
    lines = '{"prompt": "a"}\n{"prompt": "a"}\n{"url": "/v1/images/imagine", "body": {"prompt": "a"}}\n'
    first, second = _run("submit", "-", input=lines), _run("submit", "-", input=lines)
    assert first.stdout == "job_1  queued\njob_2  queued\njob_3  queued\n"
    assert second.exit_code == 0
    assert second.stdout == "".join(f"job_{n}  queued  already submitted\n" for n in (1, 2, 3))
    assert len(farm.made) == 3
    assert _run("submit", "-", "--again", input=lines).stdout.startswith("job_4  queued\n")
    assert _run("submit", "-", input=lines + "\n").stdout.startswith("job_7  queued\n"), "another file, other jobs"


def test_a_key_that_a_line_brings_itself_is_kept(farm: FakeFarm) -> None:
    _run("submit", "-", input='{"url": "/v1/jobs", "headers": {"idempotency-key": "mine"}, "body": {"prompt": "a"}}')
    assert list(farm.made) == ["mine"]


def test_a_line_is_sent_again_under_its_key_while_the_farm_is_restarted(farm: FakeFarm) -> None:
    farm.troubles = [503, 429, 0, 502]
    result = _run("submit", "-", input='{"prompt": "a"}\n{"prompt": "b"}\n')
    assert result.exit_code == 0, result.output
    assert result.stdout == "job_1  queued  already submitted\njob_2  queued\n"
    assert len(farm.requests) == 6
    assert len(farm.made) == 2


def test_a_farm_that_is_busy_from_the_start_is_one_clear_line(farm: FakeFarm) -> None:
    farm.full_at = 0
    one = _run("submit", "-", input='{"prompt": "a"}\n')
    assert _one_error_line(one) == "rendermill: Too much waits already."


def test_a_farm_that_stays_away_ends_the_run_and_the_lines_that_are_left_are_named(farm: FakeFarm) -> None:
    farm.full_at = 1
    lines = '{"prompt": "a"}\n{"prompt": "bad"}\n{"prompt": "c"}\n{"prompt": "d"}\n'
    result = _run("submit", "-", input=lines)
    assert result.exit_code == 1
    assert result.stdout == "job_1  queued\n"
    assert result.stderr.splitlines() == [
        "line 2: Wrong: prompt.",
        "line 3: Too much waits already.",
        "4 lines: 1 refused, 0 not succeeded, 2 left over",
        "refused: 2. Correct them, and submit them as a file of their own.",
        "left over: 3-4. Run the same command again: no line that was accepted is rendered twice.",
    ]


def test_a_refused_line_does_not_hold_up_the_others(farm: FakeFarm) -> None:
    result = _run("submit", "-", "--wait", input='{"prompt": "bad"}\n{"prompt": "good"}\n')
    assert result.exit_code == 1
    assert "line 1: Wrong: prompt." in result.stderr
    assert result.stdout == "job_1  succeeded\n"
    assert len(farm.requests) == 2


def test_json_names_the_line_of_each_job(farm: FakeFarm) -> None:
    lines = '{"prompt": "a"}\n{"url": "/v1/jobs", "custom_id": "two", "body": {"prompt": "b"}}\n'
    rows = [
        json.loads(row) for row in _run("submit", "-", "--json", "--out", "pictures", input=lines).stdout.splitlines()
    ]
    assert [(row["line"], row["custom_id"], row["id"]) for row in rows] == [(1, None, "job_1"), (2, "two", "job_2")]
    assert rows[1]["files"] == ["pictures/00002-two-0.png"]
    assert len(farm.made) == 2


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
def test_show_tells_of_one_job() -> None:
    shown = _run("show", "job_7").stdout
    assert "job_7" in shown
    assert "succeeded" in shown
    assert "image_of_job_7" in shown
    assert json.loads(_run("show", "job_7", "--json").stdout)["id"] == "job_7"


@pytest.mark.usefixtures("farm")
def test_download_saves_the_pictures_of_jobs_and_single_ones(tmp_path: Path) -> None:
    result = _run("download", "job_7", "image_9", "--out", "pictures")
    assert result.stdout == "pictures/job_7-0.png\npictures/image_9-0.webp\n"
    assert (tmp_path / "pictures" / "job_7-0.png").read_bytes() == b"picture"
    late = _run("download", "job_late", "--out", "late")
    assert _one_error_line(late) == "rendermill: job_late is queued, and has no pictures"


@pytest.mark.usefixtures("farm")
def test_json_is_one_object_a_line() -> None:
    for command in (["jobs"], ["models"], ["cancel", "job_x"]):
        result = _run(*command, "--json")
        assert [json.loads(line)["id"] for line in result.stdout.splitlines()], result.output


@pytest.mark.usefixtures("farm")
def test_a_wrong_key_is_one_clear_line() -> None:
    assert _one_error_line(_run("jobs", "--api-key", "rm_wrong")) == "rendermill: This key is not known."


def test_the_address_and_the_key_of_a_farm_on_this_machine_are_found(
    farm: FakeFarm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RENDERMILL_API_KEY")
    monkeypatch.delenv("RENDERMILL_URL")
    words = _one_error_line(_run("jobs"))
    assert all(word in words for word in ("--data-dir", "--url", "--api-key", ".rendermill/api-key"))
    for directory, options in ((".rendermill", []), ("other", ["--data-dir", "other"])):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "api-key").write_text("rm_key")
        (tmp_path / directory / "farm.json").write_text(json.dumps({"url": farm.url}))
        assert _run("jobs", *options).exit_code == 0


def test_the_address_may_end_as_the_base_url_of_an_sdk_does(farm: FakeFarm) -> None:
    assert "acme/model" in _run("models", "--url", f"{farm.url}/v1/").stdout


def test_a_farm_that_is_not_there_is_one_clear_line_at_once() -> None:
    line = _one_error_line(_run("jobs", "--url", "http://127.0.0.1:9", "--api-key", "k"))
    assert "No farm answers at http://127.0.0.1:9" in line
    lines = '{"prompt": "a"}\n{"prompt": "b"}\n'
    assert "No farm" in _one_error_line(
        _run("submit", "-", "--url", "http://127.0.0.1:9", "--api-key", "k", input=lines)
    )


def test_an_address_that_is_none_is_one_clear_line() -> None:
    assert "127.0.0.1" in _one_error_line(_run("jobs", "--url", "127.0.0.1:8080", "--api-key", "k"))


@pytest.mark.usefixtures("farm")
def test_a_file_that_is_not_there_is_one_clear_line() -> None:
    assert "missing.jsonl cannot be read" in _one_error_line(_run("submit", "missing.jsonl"))


@pytest.mark.usefixtures("farm")
def test_a_line_that_is_no_request_is_one_clear_line() -> None:
    assert "line 1 is not JSON" in _one_error_line(_run("submit", "-", input="{nonsense"))

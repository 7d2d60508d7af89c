"""The commands that look at things, call them off and fetch them, against a farm that answers as a test says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from client.exit_codes import ExitCode
from tests.unit.fake_api import FakeApi, run


def batch(id_: str = "batch_a", status: str = "in_progress", **more: Any) -> dict[str, Any]:
    counts = {"total": 8, "completed": 3, "failed": 1}
    return {
        "id": id_,
        "object": "batch",
        "status": status,
        "endpoint": "/v1/jobs",
        "input_file_id": "file_in",
        "output_file_id": None,
        "error_file_id": None,
        "errors": None,
        "request_counts": counts,
        "metadata": {"for": "a test"},
        "priority": "low",
        "created_at": 1_700_000_000,
        **more,
    }


def job(id_: str = "job_a", status: str = "running", **more: Any) -> dict[str, Any]:
    asked = {"prompt": "a fox\x1b[31m\nin the snow", "width": 256}
    made = {"created_at": "2026-01-02T03:04:05.678Z", "progress": 0.5, "images": [], "model": "m"}
    return {"id": id_, "object": "job", "status": status, "stage": "render", "input": asked, **made, **more}


def events(*objects: dict[str, Any]) -> httpx.Response:
    """A stream of server-sent events, each with one of the objects."""
    rows = [f"id: {n}\nevent: {o['object']}.{o['status']}\ndata: {json.dumps(o)}\n\n" for n, o in enumerate(objects)]
    return httpx.Response(200, text="".join(rows), headers={"content-type": "text/event-stream"})


def page(*objects: dict[str, Any]) -> dict[str, Any]:
    return {"data": list(objects), "has_more": False, "last_id": None, "links": {"next": None}}


ACCOUNT = {
    "id": "alice",
    "object": "account",
    "balance": 12.5,
    "reserved": 0.25,
    "charged": 1000,
    "limits": {"weight": 2, "rate": {"requests": 60, "period_s": 120}, "max_queued": 1000, "max_running": None},
    "used": {"requests_left": 58, "queued": 7, "running": 1},
    "usage": [
        {"day": "2026-01-02", "model": "acme/m", "succeeded": 5, "failed": 1, "canceled": 0, "expired": 0}
        | {"images": 9, "credits": 0.000001}
    ],
}


# Lists


def test_in_a_pipe_a_list_is_a_line_a_row_with_tabs_between_the_values(api: FakeApi) -> None:
    api.answers["GET /v1/batches"] = page(batch(), batch("batch_b", "completed"))
    assert run("batches").stdout.splitlines() == [
        "batch_a\tin_progress\t50%\t3\t1\t8\t2023-11-14T22:13:20Z\t/v1/jobs",
        "batch_b\tcompleted\t50%\t3\t1\t8\t2023-11-14T22:13:20Z\t/v1/jobs",
    ]


def test_a_group_without_a_command_lists_whatever_options_follow(api: FakeApi) -> None:
    api.answers["GET /v1/batches"] = page(batch())
    assert run("batches", "--limit", "1", "--json").stdout == run("batches", "list", "--limit", "1", "--json").stdout
    assert api.asked == ["GET /v1/batches?limit=1"] * 2
    assert "cancel" in run("batches", "--help").stdout


def test_what_strangers_wrote_moves_no_cursor_and_ends_no_line(api: FakeApi) -> None:
    api.answers["GET /v1/jobs"] = page(job())
    (line,) = run("jobs").stdout.splitlines()
    assert line == "job_a\trunning\t50%\t2026-01-02T03:04:05Z\tm\ta fox [31m in the snow"


def test_jobs_can_be_asked_by_status_and_batch(api: FakeApi) -> None:
    api.answers["GET /v1/jobs"] = page(job())
    assert run("jobs", "--status", "queued,running", "--batch", "batch_a", "--limit", "5").exit_code == ExitCode.OK
    assert httpx.URL(api.asked[0].split()[1]).params == httpx.QueryParams(
        status="queued,running", batch="batch_a", limit=5
    )


@pytest.mark.parametrize(
    ("command", "path", "object_"),
    [
        (["jobs"], "/v1/jobs", job()),
        (["batches"], "/v1/batches", batch()),
        (["files"], "/v1/files", {"id": "file_a", "filename": "a.jsonl", "purpose": "batch", "bytes": 1}),
        (["webhooks"], "/v1/webhooks", {"id": "ep_a", "url": "https://a.example", "events": []}),
    ],
)
def test_json_is_the_farms_own_object_one_a_line(
    api: FakeApi, command: list[str], path: str, object_: dict[str, Any]
) -> None:
    api.answers[f"GET {path}"] = page(object_, object_)
    assert [json.loads(line) for line in run(*command, "--json").stdout.splitlines()] == [object_, object_]


def test_an_empty_list_is_silence_in_a_pipe(api: FakeApi) -> None:
    api.answers["GET /v1/batches"] = page()
    result = run("batches")
    assert (result.exit_code, result.output) == (ExitCode.OK, "")


# One thing


def test_show_knows_what_an_id_stands_for(api: FakeApi) -> None:
    image = {"id": "image_a", "width": 64, "height": 32, "format": "png", "size": 1234, "job_id": "job_a"}
    file = {"id": "file_a", "filename": "foxes.jsonl", "purpose": "batch", "bytes": 2_000_000}
    failed = job(status="failed", error={"code": "out_of_memory", "message": "too large"}, warnings=["wrong size"])
    api.answers = {
        "GET /v1/jobs/job_a": failed,
        "GET /v1/batches/batch_a": batch(),
        "GET /v1/images/image_a": image,
        "GET /v1/files/file_a": file,
    }
    words = {
        "job_a": ["too large (out_of_memory)", "wrong size", "a fox [31m in the snow", "2026-01-02T03:04:05Z"],
        "batch_a": ["in_progress", "50%", '{"for": "a test"}', "file_in"],
        "image_a": ["64×32 png, 1.23 kB", "job_a"],
        "file_a": ["foxes.jsonl", "2 MB"],
    }
    for id_, expected in words.items():
        shown = run("show", id_).stdout
        assert all(word in shown for word in expected), shown
        assert json.loads(run("show", id_, "--json").stdout)["id"] == id_
    assert run("batches", "show", "batch_a").stdout == run("show", "batch_a").stdout


def test_an_unknown_id_is_one_line_with_the_command_that_lists_the_known_ones(api: FakeApi) -> None:
    result = run("show", "batch_x")
    assert result.exit_code == ExitCode.NOT_FOUND
    assert result.stderr == (
        "rendermill: There is no such thing: batch_x; 'rendermill batches' lists those of this key's account.\n"
    )
    assert api.asked == ["GET /v1/batches/batch_x"]


@pytest.mark.parametrize(
    "arguments",
    [["show", "../v1/jobs"], ["cancel", "image_a"], ["watch", "file_a"], ["batches", "cancel", "job_a"]],
)
def test_what_is_no_fitting_id_is_told_before_the_farm_is_asked(api: FakeApi, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == ExitCode.USAGE
    assert "is not the id of any" in result.stderr
    assert api.asked == []


def test_account_tells_limits_what_is_taken_of_them_and_usage(api: FakeApi) -> None:
    api.answers["GET /v1/account"] = ACCOUNT
    shown = run("account", "--days", "3").stdout
    for word in (
        "alice",
        "12.5",
        "0.25",
        "1,000",
        "60/2min, 58 left",
        "7 of 1000",
        "2026-01-02\tacme/m\t5",
        "0.000001",
    ):
        assert word in shown, shown
    assert api.asked == ["GET /v1/account?days=3"]
    assert json.loads(run("account", "--json").stdout) == ACCOUNT


def test_an_account_that_need_not_pay_says_so(api: FakeApi) -> None:
    limits = {"weight": 1, "rate": None, "max_queued": None, "max_running": None}
    api.answers["GET /v1/account"] = ACCOUNT | {"balance": None, "limits": limits, "usage": []}
    shown = run("account").stdout
    assert "need not pay" in shown
    assert "no limit" in shown


def test_models_show_tells_the_limits_and_the_default_of_each_parameter(api: FakeApi) -> None:
    steps = {"type": "integer", "default": 4, "minimum": 1, "maximum": 50}
    width = {"type": "integer", "default": 1024, "minimum": 256, "maximum": 2048, "multiple_of": 16}
    format_ = {"type": "string", "default": "jpeg", "enum": ["jpeg", "png"]}
    parameters = {"prompt": {"type": "string", "required": True}, "num_steps": steps, "width": width}
    model = {"id": "acme/m", "name": "M", "family": "sdxl", "aliases": {"m": []}, "modes": ["text-to-image"]}
    model |= {"price": 0.5, "live_workers": 2}
    api.answers["GET /v1/models/m"] = model | {"parameters": parameters | {"output_format": format_}}
    shown = run("models", "show", "m").stdout
    assert "num_steps\tinteger\t4\t1 to 50" in shown
    assert "256 to 2048, multiples of 16" in shown
    assert "prompt\tstring\t\trequired" in shown
    assert "jpeg, png" in shown
    assert "0.5 credits" in shown


# Calling off


def test_cancel_goes_by_the_kind_of_each_id(api: FakeApi) -> None:
    api.answers["POST /v1/jobs/job_a/cancel"] = job(status="canceled")
    api.answers["POST /v1/batches/batch_a/cancel"] = batch(status="cancelling")
    result = run("cancel", "job_a", "batch_a")
    assert result.exit_code == ExitCode.OK, result.output
    assert result.stdout == "job_a  canceled\nbatch_a  cancelling  3 completed, 1 failed of 8\n"


def test_what_is_wrong_with_one_id_does_not_stop_the_others(api: FakeApi) -> None:
    api.answers["POST /v1/jobs/job_b/cancel"] = job("job_b", "canceled")
    conflict = {"error": {"message": "batch_a has ended: completed.", "code": "conflict"}}
    api.answers["POST /v1/batches/batch_a/cancel"] = httpx.Response(409, json=conflict)
    result = run("cancel", "batch_a", "job_x", "job_b")
    assert result.exit_code == ExitCode.FAILED, "the code of the first error"
    assert result.stdout == "job_b  canceled\n"
    assert len(result.stderr.splitlines()) == 2


def test_a_key_that_is_not_known_stops_at_the_first_id(api: FakeApi) -> None:
    api.answers["POST /v1/jobs/job_a/cancel"] = httpx.Response(401, json={"code": "unauthenticated", "detail": "no"})
    result = run("cancel", "job_a", "job_b")
    assert result.exit_code == ExitCode.UNAUTHENTICATED
    assert len(api.asked) == 1
    assert len(result.stderr.splitlines()) == 1


# Following


def test_watch_follows_to_the_end_and_says_how_it_went(api: FakeApi) -> None:
    done = job(status="succeeded", images=[{"id": "image_a", "format": "png"}])
    api.answers = {"GET /v1/jobs/job_a": job(), "GET /v1/jobs/job_a/events": events(job(), done)}
    result = run("watch", "job_a")
    assert (result.exit_code, result.stdout) == (ExitCode.OK, "job_a  succeeded  image_a\n")
    lines = run("watch", "job_a", "--json").stdout.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["running", "succeeded"]


@pytest.mark.parametrize(
    ("id_", "path", "end"),
    [
        ("job_a", "/v1/jobs/job_a", job(status="failed", error={"code": "x", "message": "out of paint"})),
        ("batch_a", "/v1/batches/batch_a", batch(status="expired")),
    ],
)
def test_what_ended_badly_is_an_exit_code_and_is_not_followed(
    api: FakeApi, id_: str, path: str, end: dict[str, Any]
) -> None:
    api.answers[f"GET {path}"] = end
    result = run("watch", id_)
    assert result.exit_code == ExitCode.FAILED
    assert end["status"] in result.stdout
    assert api.asked == [f"GET {path}"]


# Fetching


def test_pictures_of_jobs_single_ones_and_the_archive_of_a_batch_are_saved(api: FakeApi, tmp_path: Path) -> None:
    image = {"id": "image_b", "format": "webp"}
    api.answers = {
        "GET /v1/jobs/job_a": job(status="succeeded", images=[{"id": "image_a", "format": "png"}]),
        "GET /v1/jobs/job_late": job("job_late", "queued"),
        "GET /v1/images/image_a/download": httpx.Response(200, content=b"a"),
        "GET /v1/images/image_b": image,
        "GET /v1/images/image_b/download": httpx.Response(200, content=b"b"),
        "GET /v1/batches/batch_a/archive": httpx.Response(200, content=b"PK"),
    }
    out = tmp_path / "pictures"
    result = run("download", "job_late", "job_a", "image_b", "batch_a", "--out", str(out))
    assert result.exit_code == ExitCode.FAILED
    assert result.stderr == "rendermill: job_late is queued, and has no pictures\n"
    names = ["job_a-0.png", "image_b-0.webp", "batch_a.zip"]
    assert result.stdout == "".join(f"{out / name}\n" for name in names)
    assert [(out / name).read_bytes() for name in names] == [b"a", b"b", b"PK"]
    (row,) = map(json.loads, run("download", "image_b", "--out", str(out), "--json").stdout.splitlines())
    assert row == {"id": "image_b", "file": str(out / "image_b-0.webp")}


def test_the_parts_of_a_batch_are_saved_under_its_id(api: FakeApi, tmp_path: Path) -> None:
    api.answers = {
        "GET /v1/batches/batch_a": batch(status="completed", output_file_id="file_out"),
        "GET /v1/batches/batch_a/archive": httpx.Response(200, content=b"PK"),
        "GET /v1/batches/batch_a/manifest": httpx.Response(200, content=b"line,custom_id\n"),
        "GET /v1/files/file_out/content": httpx.Response(200, content=b"{}\n"),
    }
    out = tmp_path / "new" / "folder"
    assert run("batches", "download", "batch_a", "--out", str(out)).stdout == f"{out}/batch_a.zip\n"
    parts = ("--part", "manifest", "--part", "output")
    assert run("batches", "download", "batch_a", "--out", str(out), *parts).exit_code == ExitCode.OK
    assert {file.name: file.read_bytes() for file in out.iterdir()} == {
        "batch_a.zip": b"PK",
        "batch_a.csv": b"line,custom_id\n",
        "batch_a-output.jsonl": b"{}\n",
    }


def test_a_file_that_is_not_there_yet_is_told_with_how_to_wait_for_it(api: FakeApi, tmp_path: Path) -> None:
    api.answers["GET /v1/batches/batch_a"] = batch()
    result = run("batches", "download", "batch_a", "--part", "errors", "--out", str(tmp_path))
    assert result.exit_code == ExitCode.FAILED
    assert "is in_progress; 'rendermill watch batch_a' follows it" in result.stderr


def test_a_download_that_breaks_off_leaves_no_file(api: FakeApi, tmp_path: Path) -> None:
    class Broken(httpx.SyncByteStream):
        def __iter__(self) -> Any:
            yield b"half"
            raise httpx.ReadError("cut")

    api.answers["GET /v1/files/file_a/content"] = lambda _: httpx.Response(200, stream=Broken())
    result = run("files", "download", "file_a", "--out", str(tmp_path))
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_clear_line(api: FakeApi, tmp_path: Path) -> None:
    api.answers["GET /v1/files/file_a/content"] = httpx.Response(200, content=b"{}")
    (tmp_path / "taken").write_text("")
    result = run("files", "download", "file_a", "--out", str(tmp_path / "taken"))
    assert result.exit_code == ExitCode.FAILED
    assert "cannot be written" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_files_that_are_needed_are_kept_and_the_others_deleted(api: FakeApi) -> None:
    kept = {"error": {"message": "A batch that is not finished needs file_a.", "code": "conflict"}}
    api.answers = {
        "DELETE /v1/files/file_a": httpx.Response(409, json=kept),
        "DELETE /v1/files/file_b": {"id": "file_b", "object": "file", "deleted": True},
    }
    result = run("files", "delete", "file_a", "file_b")
    assert result.exit_code == ExitCode.FAILED
    assert "needs file_a" in result.stderr
    assert "file_b deleted" in result.stderr


# Webhooks


def test_endpoints_are_made_with_their_secret_and_removed(api: FakeApi) -> None:
    made = {"id": "ep_a", "url": "https://a.example/", "events": ["job.failed"], "secret": "whsec_AAAA"}
    api.answers = {"POST /v1/webhooks": made, "DELETE /v1/webhooks/ep_a": httpx.Response(204)}
    result = run("webhooks", "create", "https://a.example/", "--event", "job.failed")
    assert "whsec_AAAA" in result.stdout
    assert json.loads(api.requests[0].content) == {"url": "https://a.example/", "events": ["job.failed"]}
    assert run("webhooks", "create", "https://a.example/", "--event", "job.lost").exit_code == ExitCode.USAGE
    assert run("webhooks", "delete", "ep_a").exit_code == ExitCode.OK


def test_deliveries_are_paged_and_tell_how_the_last_attempt_went(api: FakeApi) -> None:
    def delivery(number: int) -> dict[str, Any]:
        attempts = [{"result": "timeout", "detail": "no answer"}, {"result": "http_5xx", "detail": "it answered 500"}]
        about = {"event": "job.failed", "created_at": "2026-01-02T03:04:05Z", "status": "pending"}
        return {"id": f"msg_{number}", "attempts": attempts, **about}

    def answer(request: httpx.Request) -> httpx.Response:
        after = int(request.url.params.get("after", 0))
        data = [delivery(after + n) for n in range(int(request.url.params["limit"]))]
        return httpx.Response(200, json={"data": data, "after": str(after + len(data))})

    api.answers["GET /v1/webhooks/deliveries"] = answer
    lines = run("webhooks", "deliveries", "--limit", "150").stdout.splitlines()
    assert len(lines) == 150
    assert lines[149] == "msg_149\tpending\t2026-01-02T03:04:05Z\tjob.failed\t2\tit answered 500"


def test_secrets_are_printed_and_only_that_of_jobs_rotates(api: FakeApi) -> None:
    api.answers = {
        "GET /v1/webhooks/secret": {"secret": "whsec_jobs"},
        "GET /v1/webhooks/ep_a/secret": {"secret": "whsec_ep"},
        "POST /v1/webhooks/secret/rotate": {"secret": "whsec_new"},
    }
    assert run("webhooks", "secret").stdout == "whsec_jobs\n"
    assert run("webhooks", "secret", "ep_a").stdout == "whsec_ep\n"
    assert run("webhooks", "secret", "--rotate").stdout == "whsec_new\n"
    assert run("webhooks", "secret", "ep_a", "--rotate").exit_code == ExitCode.USAGE


def test_what_answers_but_is_no_farm_is_one_clear_line(api: FakeApi) -> None:
    api.answers["GET /v1/batches"] = httpx.Response(200, text="<html>It works!</html>")
    result = run("batches")
    assert result.exit_code == ExitCode.FAILED
    assert "is no farm" in result.stderr
    assert len(result.stderr.splitlines()) == 1

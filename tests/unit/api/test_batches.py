"""Batches from their files to their outputs, with a worker in this process that only paints."""

from __future__ import annotations

import io
import json
import threading

import pytest
from flask.testing import FlaskClient
from redis import Redis

from intake.pictures import BadPicture
from shared.batches import job_id
from shared.scheduler import Scheduler
from tests.fake_worker import FakeWorker
from tests.memory_storage import MemoryStorage
from tests.servers import PATIENCE_S
from tests.unit.api import pictures
from tests.unit.api.batch_lines import IMAGES, Create, content, finish, job_line, line
from tests.unit.api.uploads import upload
from worker.batching import BatchWorker
from worker.judging import PICTURES_AT_ONCE

PARTS = ("events", "manifest", "archive")


def test_a_batch_goes_from_its_file_to_its_output(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create
) -> None:
    lines = [line("fox"), line("owl", n=2, response_format="b64_json"), line("cat", model="gpt-image-1")]
    batch = create(lines, metadata={"for": "me"})
    assert (batch["object"], batch["status"], batch["priority"]) == ("batch", "validating", "low")
    batching.work_due()
    running = client.get(f"/v1/batches/{batch['id']}").json
    assert (running["status"], running["request_counts"]) == (
        "in_progress",
        {"total": 3, "completed": 0, "failed": 0},
    )
    done = finish(client, batching, worker, batch)
    assert (done["status"], done["metadata"], done["errors"]) == ("completed", {"for": "me"}, None)
    assert done["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert done["error_file_id"] is None
    assert done["created_at"] <= done["in_progress_at"] <= done["finalizing_at"] <= done["completed_at"]
    output = content(client, done["output_file_id"])
    assert [one["custom_id"] for one in output] == ["fox", "owl", "cat"]
    assert {tuple(one) for one in output} == {("id", "custom_id", "response", "error")}
    fox, owl, cat = (one["response"] for one in output)
    assert fox["status_code"] == 200
    (picture,) = fox["body"]["data"]
    path = picture["url"].removeprefix("http://farm.test")
    assert client.application.test_client().get(path).content_type == "image/png"
    assert [set(image) for image in owl["body"]["data"]] == [{"b64_json"}] * 2
    assert cat["body"]["size"] == "256x256"
    assert client.get(f"/v1/jobs/{fox['request_id']}").json["priority"] == "low"


def test_a_batch_without_the_record_of_its_file_fails(
    client: FlaskClient, batching: BatchWorker, create: Create, redis: Redis
) -> None:
    batch = create([line("fox")])
    redis.delete(f"rm:file:{batch['input_file_id']}")
    batching.work_due()
    failed = client.get(f"/v1/batches/{batch['id']}").json
    assert (failed["status"], failed["errors"]["data"][0]["code"]) == ("failed", "file_missing")


def test_lines_of_the_native_api_come_back_as_jobs(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create
) -> None:
    batch = create([job_line("fox", seed=7, name="a name", priority="high"), job_line("owl")], "/v1/jobs")
    done = finish(client, batching, worker, batch)
    fox, owl = (one["response"]["body"] for one in content(client, done["output_file_id"]))
    assert (fox["object"], fox["input"]["seed"], fox["name"], fox["priority"]) == ("job", 7, "a name", "high")
    assert fox["images"][0]["seed"] == 7
    assert owl["priority"] == "low"


def test_a_bad_line_has_its_own_entry_and_stops_no_other(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create
) -> None:
    good = json.dumps(line("good")).encode()
    lines = [
        b"\xef\xbb\xbf" + good + b"\r",
        b"{not json}",
        b'"a string"',
        b"\xff\xfe",
        b"nul \0 here",
        b"   ",
        good,
        json.dumps({**line("b"), "method": "GET"}).encode(),
        json.dumps(line("c", url="/v1/jobs")).encode(),
        json.dumps({**line("d"), "custom_id": 5}).encode(),
        json.dumps({**line("e"), "body": []}).encode(),
        json.dumps({**line("f"), "colour": "red"}).encode(),
        json.dumps(line("g", n=11)).encode(),
        json.dumps(line("h", size="8x8")).encode(),
        json.dumps(line("i", model="nothing")).encode(),
        json.dumps(line("j", stream=True)).encode(),
        json.dumps(line("k", image="bm90IGFuIGltYWdl")).encode(),
        b'{"custom_id": "l", "body": NaN}',
        json.dumps(line("last")).encode(),
    ]
    done = finish(client, batching, worker, create(b"\n".join(lines)))
    assert done["status"] == "completed"
    assert done["request_counts"] == {"total": 18, "completed": 2, "failed": 16}
    assert [one["custom_id"] for one in content(client, done["output_file_id"])] == ["good", "last"]
    errors = content(client, done["error_file_id"])
    assert {one["response"] for one in errors} == {None}
    told = [(one["error"]["line"], one["custom_id"], one["error"]["code"], one["error"]["param"]) for one in errors]
    assert told == [
        (2, None, "invalid_json_line", None),
        (3, None, "invalid_json_line", None),
        (4, None, "invalid_utf8", None),
        (5, None, "invalid_json_line", None),
        (7, "good", "duplicate_custom_id", "custom_id"),
        (8, "b", "invalid_method", "method"),
        (9, "c", "invalid_url", "url"),
        (10, None, "invalid_custom_id", "custom_id"),
        (11, "e", "invalid_body", "body"),
        (12, "f", "unknown_field", "colour"),
        (13, "g", "invalid_value", "n"),
        (14, "h", "invalid_value", "size"),
        (15, "i", "unknown_model", "model"),
        (16, "j", "invalid_value", "stream"),
        (17, "k", "bad_image", "image"),
        (18, None, "invalid_json_line", None),
    ]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b"\r\n \n\n", "empty_file"),
        (b"\n" * 1_000_002, "too_many_lines"),
        (b"{}\n" * 50_001, "too_many_lines"),
        (b"\x89PNG\r\n\x1a\n", "invalid_utf8"),
        (json.dumps(line("x", url="/v1/jobs")).encode(), "invalid_url"),
        (b"x" * (5 * 2**20), "line_too_long"),
    ],
)
def test_a_file_of_which_nothing_can_be_used_fails_the_batch(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create, data: bytes, code: str
) -> None:
    failed = finish(client, batching, worker, create(data))
    assert (failed["status"], failed["output_file_id"]) == ("failed", None)
    assert failed["errors"]["object"] == "list"
    assert failed["errors"]["data"][0]["code"] == code
    assert failed["failed_at"] is not None


def test_a_job_that_fails_is_in_the_error_file(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create
) -> None:
    done = finish(client, batching, worker, create([line("a", prompt="fail: render_failed"), line("b")]))
    assert (done["status"], done["request_counts"]) == ("completed", {"total": 2, "completed": 1, "failed": 1})
    (error,) = content(client, done["error_file_id"])
    assert (error["custom_id"], error["error"]["code"], error["error"]["line"]) == ("a", "render_failed", 1)


def test_a_picture_whose_object_is_gone_is_left_out_of_the_output(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create, storage: MemoryStorage
) -> None:
    batch = create([line("a", n=2, response_format="b64_json")])
    batching.work_due()
    worker.work()
    storage.delete([next(key for key in storage.objects if key.startswith("outputs/"))])
    batching.work_due()
    done = client.get(f"/v1/batches/{batch['id']}").json
    assert done["status"] == "completed"
    (entry,) = content(client, done["output_file_id"])
    assert len(entry["response"]["body"]["data"]) == 1


def test_an_image_is_edited_by_its_id(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create
) -> None:
    form = {"name": "fox", "image": (io.BytesIO(pictures.png()), "fox.png")}
    image = client.post("/v1/images/upload", data=form, content_type="multipart/form-data").json["id"]
    asked = {"prompt": "a hat", "images": [{"file_id": image}], "size": "256x256"}
    lines = [{"custom_id": "a", "method": "POST", "url": "/v1/images/edits", "body": asked}]
    done = finish(client, batching, worker, create(lines, "/v1/images/edits"))
    assert done["request_counts"]["completed"] == 1, content(client, done["error_file_id"])
    assert client.get(f"/v1/jobs/{job_id(done['id'], 1)}").json["input"]["input_image"] == "stored with the job"


def test_pictures_are_fetched_side_by_side_and_the_lines_stay_in_order(
    client: FlaskClient,
    batching: BatchWorker,
    create: Create,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = threading.Barrier(PICTURES_AT_ONCE)
    fetching: list[str] = []
    most = 0

    def fetched(source: str, *_: object) -> bytes:
        nonlocal most
        fetching.append(source)
        most = max(most, len(fetching))
        together.wait(PATIENCE_S)
        fetching.remove(source)
        if source == "bad":
            raise BadPicture("is not what it seems")
        return pictures.png()

    monkeypatch.setattr("intake.input_images.image_bytes", fetched)
    sources = ["bad" if number % 3 == 2 else "good" for number in range(2 * PICTURES_AT_ONCE)]
    lines = [job_line(f"{number}", input_image=source) for number, source in enumerate(sources)]
    batch = create([job_line("first"), *lines, job_line("last")], "/v1/jobs")
    batching.work_due()
    assert most == PICTURES_AT_ONCE
    good = [1, *(number for number, source in enumerate(sources, start=2) if source == "good"), len(sources) + 2]
    assert redis.zrange("rm:jobs:alice:queued", 0, -1) == [job_id(batch["id"], number) for number in good]
    client.post(f"/v1/batches/{batch['id']}/cancel")
    batching.work_due()
    errors = content(client, client.get(f"/v1/batches/{batch['id']}").json["error_file_id"])
    assert [one["error"]["line"] for one in errors if one["error"]["code"] == "bad_image"] == [
        number for number, source in enumerate(sources, start=2) if source == "bad"
    ]


def test_what_is_asked_of_a_batch_is_checked(client: FlaskClient, stranger: dict[str, str]) -> None:
    file_id = upload(client).json["id"]
    good = {"input_file_id": file_id, "endpoint": IMAGES, "completion_window": "7d"}
    for field, value in {
        "endpoint": "/v1/chat/completions",
        "completion_window": "15d",
        "priority": "urgent",
        "metadata": {"a": 1},
        "colour": "red",
    }.items():
        answer = client.post("/v1/batches", json={**good, field: value})
        assert (answer.status_code, answer.json["error"]["param"]) == (400, field)
    unknown = client.post("/v1/batches", json={**good, "input_file_id": "file_x"})
    assert (unknown.status_code, unknown.json["error"]["code"]) == (404, "not_found")
    anonymous = client.application.test_client()
    assert anonymous.post("/v1/batches", json=good, headers=stranger).status_code == 404


def test_the_same_key_makes_one_batch(client: FlaskClient) -> None:
    body = {"input_file_id": upload(client).json["id"], "endpoint": IMAGES, "completion_window": "24h"}
    headers = {"Idempotency-Key": "once"}
    first, second = (client.post("/v1/batches", json=body, headers=headers) for _ in range(2))
    assert second.json["id"] == first.json["id"]
    assert second.headers["Idempotent-Replayed"] == "true"
    other = client.post("/v1/batches", json={**body, "priority": "high"}, headers=headers)
    assert (other.status_code, other.json["error"]["code"]) == (400, "idempotency_mismatch")


def test_another_accounts_batch_does_not_exist(client: FlaskClient, create: Create, stranger: dict[str, str]) -> None:
    id_ = create([line("a")])["id"]
    anonymous = client.application.test_client()
    for method, path in (
        ("GET", ""),
        ("POST", "/cancel"),
        ("GET", "/events"),
        ("GET", "/manifest"),
        ("GET", "/archive"),
    ):
        answer = anonymous.open(f"/v1/batches/{id_}{path}", method=method, headers=stranger)
        assert (answer.status_code, answer.json["error"]["code"]) == (404, "not_found"), path
    for query in ("", "&order=finished"):
        assert anonymous.get(f"/v1/jobs?batch={id_}{query}", headers=stranger).status_code == 404
    assert anonymous.get("/v1/batches", headers=stranger).json["data"] == []


def test_batches_are_listed_in_pages(client: FlaskClient, create: Create) -> None:
    ids = [create([line("a")])["id"] for _ in range(3)]
    first = client.get("/v1/batches?limit=2").json
    assert [batch["id"] for batch in first["data"]] == ids[:0:-1]
    assert (first["object"], first["first_id"], first["last_id"], first["has_more"]) == ("list", ids[2], ids[1], True)
    assert [batch["id"] for batch in client.get(f"/v1/batches?after={ids[1]}").json["data"]] == ids[:1]


def test_the_jobs_of_a_batch_are_listed(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create
) -> None:
    batch = create([line("a"), line("b", n=99), line("c", prompt="fail: render_failed"), line("d"), line("e")])
    finish(client, batching, worker, batch)
    listed: list[str] = []
    address = f"/v1/jobs?batch={batch['id']}&limit=2"
    while address:
        page = client.get(address.removeprefix("http://farm.test")).json
        listed += [job["id"] for job in page["data"]]
        address = page["links"]["next"]
    assert listed == [job_id(batch["id"], number) for number in (5, 4, 3, 1)]
    failed = client.get(f"/v1/jobs?batch={batch['id']}&status=failed").json["data"]
    assert [job["id"] for job in failed] == [job_id(batch["id"], 3)]


def test_the_jobs_that_have_ended_are_listed_in_that_order_and_followed_by_their_cursor(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create
) -> None:
    batch = create([line(name, prompt="fail: render_failed" if name == "c" else "fox") for name in "abc"])
    address = f"/v1/jobs?batch={batch['id']}&order=finished"
    before = client.get(address).json
    assert (before["data"], before["has_more"], before["after"], before["links"]["next"]) == ([], False, "0", None)
    batching.work_due()
    client.post(f"/v1/jobs/{job_id(batch['id'], 2)}/cancel")
    first = client.get(address).json
    assert [(job["custom_id"], job["status"]) for job in first["data"]] == [("b", "canceled")]
    worker.work()
    rest = client.get(f"{address}&limit=1&after={first['after']}").json
    assert (rest["has_more"], rest["after"]) == (True, "2")
    last = client.get(rest["links"]["next"].removeprefix("http://farm.test")).json
    assert [(job["custom_id"], job["batch_id"]) for job in rest["data"] + last["data"]] == [
        ("a", batch["id"]),
        ("c", batch["id"]),
    ]
    assert (last["has_more"], last["after"]) == (False, "3")


@pytest.mark.parametrize("query", ["order=finished", "batch=batch_1&order=finished&status=failed", "order=newest"])
def test_the_order_of_the_end_is_that_of_a_whole_batch(client: FlaskClient, query: str) -> None:
    refused = client.get(f"/v1/jobs?{query}")
    assert (refused.status_code, list(refused.json["errors"])) == (422, ["order"])


def test_a_cancelled_batch_keeps_what_was_rendered(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create
) -> None:
    batch = create([line(f"done-{number}") for number in range(3)])
    batching.work_due()
    worker.work()
    batch = create([line("a"), line("b"), line("hold", prompt="hold")])
    batching.work_due()
    answer = client.post(f"/v1/batches/{batch['id']}/cancel")
    assert (answer.status_code, answer.json["status"]) == (200, "cancelling")
    done = finish(client, batching, worker, batch)
    assert (done["status"], done["request_counts"]) == ("cancelled", {"total": 3, "completed": 0, "failed": 3})
    errors = content(client, done["error_file_id"])
    assert {one["error"]["code"] for one in errors} == {"batch_cancelled"}
    again = client.post(f"/v1/batches/{batch['id']}/cancel")
    assert (again.status_code, again.json["error"]["code"]) == (409, "conflict")


def test_a_batch_is_cancelled_while_a_job_of_it_runs(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create, redis: Redis
) -> None:
    batch = create([line("a"), line("hold", prompt="hold")])
    batching.work_due()
    worker.work()
    client.post(f"/v1/batches/{batch['id']}/cancel")
    batching.work_due()
    assert client.get(f"/v1/batches/{batch['id']}").json["status"] == "cancelling"
    scheduler = Scheduler(redis, lease_s=60, max_attempts=1, retry_delay_s=1)
    redis.zadd("rm:leases", {job_id(batch["id"], 2): 0})
    scheduler.sweep()
    done = finish(client, batching, worker, batch)
    assert (done["status"], done["request_counts"]) == ("cancelled", {"total": 2, "completed": 1, "failed": 1})
    assert [one["custom_id"] for one in content(client, done["output_file_id"])] == ["a"]


def test_a_batch_is_cancelled_before_it_is_looked_at(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create
) -> None:
    batch = create([line("a")])
    assert client.post(f"/v1/batches/{batch['id']}/cancel").json["status"] == "cancelling"
    assert finish(client, batching, worker, batch)["status"] == "cancelled"


def test_what_is_not_begun_in_time_expires(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create, redis: Redis
) -> None:
    batch = create([line("a"), line("b")])
    redis.hset(f"rm:batch:{batch['id']}", "expires", 1)
    done = finish(client, batching, worker, batch)
    assert (done["status"], done["request_counts"]) == ("expired", {"total": 2, "completed": 0, "failed": 2})
    assert {one["error"]["code"] for one in content(client, done["error_file_id"])} == {"batch_expired"}


def test_jobs_that_wait_too_long_expire_with_the_window(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create, redis: Redis
) -> None:
    batch = create([line("a"), line("b")])
    batching.work_due()
    deadline = redis.hget(f"rm:job:{job_id(batch['id'], 1)}", "deadline")
    assert abs(int(deadline or 0) / 1000 - batch["expires_at"]) < 5
    redis.hset(f"rm:job:{job_id(batch['id'], 1)}", "deadline", 1)
    redis.hset(f"rm:batch:{batch['id']}", "expires", 1)
    redis.zadd("rm:batches_due", {batch["id"]: 1})
    done = finish(client, batching, worker, batch)
    assert (done["status"], done["request_counts"]) == ("expired", {"total": 2, "completed": 1, "failed": 1})
    (error,) = content(client, done["error_file_id"])
    assert (error["custom_id"], error["error"]["code"]) == ("a", "batch_expired")


def test_its_file_is_kept_until_it_is_finished(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create
) -> None:
    batch = create([line("a")])
    refused = client.delete(f"/v1/files/{batch['input_file_id']}")
    assert (refused.status_code, refused.json["error"]["code"]) == (409, "conflict")
    finish(client, batching, worker, batch)
    assert client.delete(f"/v1/files/{batch['input_file_id']}").status_code == 200
    assert client.get(f"/v1/batches/{batch['id']}/manifest", buffered=True).status_code == 200

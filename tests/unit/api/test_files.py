"""Files: uploaded in a stream, listed, downloaded and deleted, with errors as the OpenAI API has them."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from shared.files import Files
from tests.memory_storage import MemoryStorage
from tests.unit.api.uploads import LINES, upload


def test_a_file_comes_back_as_it_was_sent(client: FlaskClient) -> None:
    answer = upload(client)
    assert answer.status_code == 200, answer.text
    file = answer.json
    assert {name: file[name] for name in ("object", "bytes", "filename", "purpose", "status")} == {
        "object": "file",
        "bytes": len(LINES),
        "filename": "lines.jsonl",
        "purpose": "batch",
        "status": "processed",
    }
    assert file["expires_at"] - file["created_at"] == 30 * 86400
    assert client.get(f"/v1/files/{file['id']}").json == file
    assert client.get(f"/v1/files/{file['id']}/content").data == LINES


def test_a_file_may_be_larger_than_the_largest_other_body(client: FlaskClient) -> None:
    data = b"x" * 1_000_003
    file = upload(client, data).json
    assert client.get(f"/v1/files/{file['id']}/content").data == data


def test_a_file_that_is_too_large_is_refused(
    client: FlaskClient, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.routes.files.MAX_FILE_BYTES", 1000)
    assert upload(client, b"x" * 1000).status_code == 200
    storage.objects.clear()
    for size in (1001, 3_000_000):
        answer = upload(client, b"x" * size)
        assert answer.status_code == 413
        assert answer.json["error"]["code"] == "body_too_large"
    assert not storage.objects


def test_its_expiry_is_what_was_asked_for(client: FlaskClient) -> None:
    file = upload(client, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}).json
    assert file["expires_at"] - file["created_at"] == 3600


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "fine-tune"}, "purpose"),
        ({"expires_after[seconds]": "60"}, "expires_after[seconds]"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    client: FlaskClient, storage: MemoryStorage, fields: dict[str, str], param: str
) -> None:
    answer = upload(client, **fields)
    assert answer.status_code == 400
    assert answer.json["error"]["param"] == param
    assert not storage.objects


def test_a_form_without_a_file_and_no_form_at_all_are_refused(client: FlaskClient) -> None:
    answer = client.post("/v1/files", data={"purpose": "batch"}, content_type="multipart/form-data")
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "file")
    assert client.post("/v1/files", json={"purpose": "batch"}).status_code == 415
    broken = client.post("/v1/files", data=b"--x\r\nnonsense", content_type="multipart/form-data; boundary=x")
    assert broken.status_code == 400


def test_files_are_listed_in_pages(client: FlaskClient) -> None:
    ids = [upload(client, name=f"{number}.jsonl").json["id"] for number in range(5)]
    first = client.get("/v1/files?limit=3").json
    assert [file["id"] for file in first["data"]] == ids[:1:-1]
    assert (first["object"], first["has_more"], first["last_id"]) == ("list", True, ids[2])
    second = client.get(f"/v1/files?limit=3&after={first['last_id']}").json
    assert ([file["id"] for file in second["data"]], second["has_more"]) == (ids[1::-1], False)
    oldest_first = client.get("/v1/files?order=asc&purpose=batch").json
    assert [file["id"] for file in oldest_first["data"]] == ids
    assert client.get("/v1/files?purpose=batch_output").json["data"] == []
    assert client.get("/v1/files?after=file_unknown").status_code == 400


def test_a_deleted_file_is_gone(client: FlaskClient, storage: MemoryStorage) -> None:
    file_id = upload(client).json["id"]
    assert client.delete(f"/v1/files/{file_id}").json == {"id": file_id, "object": "file", "deleted": True}
    assert not storage.objects
    for path in (f"/v1/files/{file_id}", f"/v1/files/{file_id}/content"):
        assert client.get(path).status_code == 404
    assert client.get("/v1/files").json["data"] == []


def test_another_accounts_file_does_not_exist(client: FlaskClient, stranger: dict[str, str]) -> None:
    file_id = upload(client).json["id"]
    anonymous = client.application.test_client()
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        answer = anonymous.open(f"/v1/files/{file_id}{path}", method=method, headers=stranger)
        assert (answer.status_code, answer.json["error"]["code"]) == (404, "not_found")


def test_a_file_that_a_batch_needs_is_kept(client: FlaskClient, redis: Any) -> None:
    file_id = upload(client).json["id"]
    redis.sadd(f"rm:file_users:{file_id}", "batch_x")
    assert client.delete(f"/v1/files/{file_id}").status_code == 409
    redis.srem(f"rm:file_users:{file_id}", "batch_x")
    assert Files(redis).delete(file_id)


# ── Uploads that are repeated ──


def test_the_same_key_makes_one_file(client: FlaskClient, storage: MemoryStorage) -> None:
    client.environ_base["HTTP_IDEMPOTENCY_KEY"] = "once"
    first, second = upload(client), upload(client)
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.json == first.json
    assert list(storage.objects) == [f"files/{first.json['id']}"]
    assert len(client.get("/v1/files").json["data"]) == 1


@pytest.mark.parametrize(
    "other", [{"data": b"something else"}, {"name": "other.jsonl"}, {"expires_after[anchor]": "created_at"}]
)
def test_the_same_key_with_another_file_is_refused(
    client: FlaskClient, storage: MemoryStorage, other: dict[str, Any]
) -> None:
    client.environ_base["HTTP_IDEMPOTENCY_KEY"] = "once"
    fields = {"expires_after[seconds]": "3600"} if "expires_after[anchor]" in other else {}
    first = upload(client).json
    answer = upload(client, **other, **fields)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "idempotency_mismatch")
    assert list(storage.objects) == [f"files/{first['id']}"]


def test_a_key_whose_file_was_deleted_is_free_again(client: FlaskClient) -> None:
    client.environ_base["HTTP_IDEMPOTENCY_KEY"] = "once"
    first = upload(client).json
    client.delete(f"/v1/files/{first['id']}")
    again = upload(client, b"other content")
    assert again.status_code == 200
    assert again.json["id"] != first["id"]


def test_an_upload_that_an_sdk_sends_again_gets_the_file_of_the_first(client: FlaskClient) -> None:
    client.environ_base["HTTP_X_STAINLESS_RETRY_COUNT"] = "0"
    first, another = upload(client).json, upload(client).json
    assert first["id"] != another["id"]
    client.environ_base["HTTP_X_STAINLESS_RETRY_COUNT"] = "1"
    assert upload(client).json["id"] == another["id"]


def test_a_key_that_cannot_be_read_leaves_nothing(client: FlaskClient, storage: MemoryStorage) -> None:
    client.environ_base["HTTP_IDEMPOTENCY_KEY"] = "x" * 256
    assert upload(client).status_code == 400
    assert not storage.objects


def test_an_upload_is_noted_before_it_is_stored(client: FlaskClient, storage: MemoryStorage, redis: Redis) -> None:
    storage.away = True
    assert upload(client).status_code == 503
    (noted,) = redis.zrange("rm:unclaimed", 0, -1)
    assert noted.startswith("files/file_")

"""Batch files as nobody should write them: each line is answered for, and what can be rendered is."""

from __future__ import annotations

import csv
import io
import json
import zipfile
import zlib
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from tests.fake_worker import FakeWorker
from tests.memory_storage import MemoryStorage
from tests.unit.api.batch_lines import IMAGES, Create, content, finish, job_line, line
from tests.unit.api.uploads import upload
from worker.batching import BatchWorker

GOOD = json.dumps(line("good"))
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\nendobj\n%%EOF\n"


def of_body(custom_id: str, body: str) -> str:
    """A line whose body is this JSON."""
    return f'{{"custom_id": "{custom_id}", "method": "POST", "url": "{IMAGES}", "body": {body}}}'


def nested(depth: int) -> str:
    return of_body("deep", f'{{"prompt": "x", "user": {"[" * depth}{"]" * depth}}}')


def test_hostile_json_is_refused_line_by_line(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create, caplog: pytest.LogCaptureFixture
) -> None:
    lines = {
        of_body("a", '{"prompt": "x", "guidance_scale": 1e999}'): ("invalid_value", "guidance_scale: must be between"),
        of_body("b", '{"prompt": "x", "guidance_scale": 1' + "0" * 400 + "}"): (
            "invalid_value",
            "guidance_scale: must",
        ),
        of_body("c", '{"prompt": "x", "seed": 1' + "0" * 4000 + "}"): ("invalid_value", "seed: must be between"),
        of_body("d", '{"prompt": "x", "seed": 1' + "0" * 5000 + "}"): ("invalid_json_line", "too many digits"),
        of_body("e", '{"prompt": "x", "n": NaN}'): ("invalid_json_line", "NaN is no number"),
        of_body("f", '{"prompt": "x", "n": -Infinity}'): ("invalid_json_line", "-Infinity is no number"),
        of_body("g", r'{"prompt": "half \ud800"}'): ("invalid_value", "half of a surrogate pair"),
        of_body("h", r'{"prompt": "x", "\udfff\n=cmd()": 1}'): ("invalid_value", "is unknown"),
        nested(50): ("invalid_value", "user: must be a string"),
        nested(99): ("invalid_json_line", "nested more than 100 deep"),
        nested(500): ("invalid_json_line", "nested more than 100 deep"),
        nested(100_000): ("invalid_json_line", "nested more than 100 deep"),
        '"' + GOOD: ("invalid_json_line", "at character"),
        GOOD + GOOD: ("invalid_json_line", "Extra data at character"),
        GOOD + "\0": ("invalid_json_line", "character NUL: save the file as UTF-8"),
        f"[{GOOD}]": ("invalid_json_line", "not a list of them"),
        "[": ("invalid_json_line", "not a list of them"),
        "\ufeff" + GOOD: ("invalid_json_line", "Expecting value"),
    }
    done = finish(client, batching, worker, create("\n".join([*lines, GOOD]).encode()))
    assert done["request_counts"] == {"total": len(lines) + 1, "completed": 1, "failed": len(lines)}
    for number, (entry, (code, words)) in enumerate(
        zip(content(client, done["error_file_id"]), lines.values(), strict=True), 1
    ):
        assert (entry["error"]["line"], entry["error"]["code"]) == (number, code), entry
        assert words in entry["error"]["message"]
    assert not caplog.records, "no line is a fault of the server"


@pytest.mark.parametrize("custom_id", ["", "x" * 513, "x" * 10_000, "nul \0", "half \ud800", 5, True, None, ["a"], {}])
def test_what_is_no_custom_id_is_refused(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create, custom_id: Any
) -> None:
    failed = finish(client, batching, worker, create([{**line("x"), "custom_id": custom_id}]))
    (error,) = failed["errors"]["data"]
    assert (failed["status"], error["code"], error["line"]) == ("failed", "invalid_custom_id", 1)


def test_any_other_custom_id_comes_back_as_it_was_and_gives_its_picture_a_harmless_name(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create
) -> None:
    names = {
        "../../etc/passwd": "etc-passwd.png",
        "/absolute": "absolute.png",
        "C:\\windows": "C-windows.png",
        "quote\"'`": "quote.png",
        "new\nline\r\n": "new-line.png",
        "\x1b[31m\t\x07": "31m.png",
        "🦊 ﷽": "line-00007.png",
        "\u2028 \x85 \u2029": "line-00008.png",
        "=cmd()|' /C calc'!A0": "cmd-C-calc-A0.png",
        "-rf": "rf.png",
        "+1": "1.png",
        "@SUM(1)": "SUM-1.png",
        "\t=1": "1~13.png",
        "..": "line-00014.png",
        "line-00014": "line-00014~15.png",
        "good": "good.png",
        "GOOD": "GOOD~17.png",
        "x" * 512: "x" * 150 + ".png",
        "manifest.csv": "manifest.csv.png",
        "Füchsin": "Füchsin.png",
        "狐" * 100: "狐" * 50 + ".png",
    }
    batch = create([line(name, prompt="x") for name in names])
    done = finish(client, batching, worker, batch)
    assert done["request_counts"]["completed"] == len(names)
    output = client.get(f"/v1/files/{done['output_file_id']}/content").data.decode()
    # However a reader parts lines.
    assert [json.loads(text)["custom_id"] for text in output.splitlines()] == list(names)
    manifest = client.get(f"/v1/batches/{batch['id']}/manifest", buffered=True).data.decode()
    rows = list(csv.DictReader(io.StringIO(manifest, newline="")))
    assert [row["file"] for row in rows] == list(names.values())
    assert [row["custom_id"].removeprefix("'") for row in rows] == list(names)
    assert not [row for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    archive = client.get(f"/v1/batches/{batch['id']}/archive", buffered=True)
    with zipfile.ZipFile(io.BytesIO(archive.data)) as bundle:
        assert bundle.namelist() == [*names.values(), "manifest.csv"]


def test_of_a_key_that_is_there_twice_the_last_counts(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create
) -> None:
    text = GOOD.replace('"custom_id"', '"custom_id": "first", "custom_id"').replace(
        '"prompt"', '"prompt": "", "prompt"'
    )
    done = finish(client, batching, worker, create(text.encode()))
    assert [entry["custom_id"] for entry in content(client, done["output_file_id"])] == ["good"]


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20, "invalid_utf8", "not UTF-8"),
        (PDF, "invalid_json_line", "not JSON"),
        (f"[{GOOD},{GOOD}]".encode(), "invalid_json_line", "not a list of them"),
        (json.dumps([line("a"), line("b")], indent=1).encode(), "invalid_json_line", "not a list of them"),
        (json.dumps(line("a"), indent=1).encode(), "invalid_json_line", "not JSON"),
        (GOOD.encode("utf-16"), "invalid_utf8", "not UTF-8"),
        (GOOD.encode("utf-16-le"), "invalid_json_line", "NUL"),
        (GOOD.encode("utf-32"), "invalid_utf8", "not UTF-8"),
        (zlib.compress(GOOD.encode()), "invalid_utf8", "not UTF-8"),
        (b"\0" * 5000, "invalid_json_line", "NUL"),
        ((GOOD + "\r" + GOOD).encode(), "invalid_json_line", "Extra data"),
        (b"custom_id,prompt\na,fox\n", "invalid_json_line", "not JSON"),
        (b'{"custom_id": "' + b"x" * 30 * 2**20 + b'"}\n', "line_too_long", "4194304 bytes"),
        (json.dumps(job_line("x")).encode(), "invalid_url", "the endpoint of the batch"),
        (b"", "empty_file", "no lines"),
        (b"\xef\xbb\xbf", "empty_file", "no lines"),
        (b" \t\r\n\x0c\n\n", "empty_file", "no lines"),
    ],
)
def test_what_is_no_batch_file_fails_with_words_that_help(
    client: FlaskClient,
    batching: BatchWorker,
    worker: FakeWorker,
    create: Create,
    data: bytes,
    code: str,
    words: str,
) -> None:
    failed = finish(client, batching, worker, create(data))
    assert (failed["status"], failed["output_file_id"]) == ("failed", None)
    first = failed["errors"]["data"][0]
    assert first["code"] == code
    assert words in first["message"]
    assert first["line"] == (None if code == "empty_file" else 1)


def test_two_batches_of_one_file_are_two(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create
) -> None:
    first = create([line("a")])
    body = {"input_file_id": first["input_file_id"], "endpoint": IMAGES, "completion_window": "24h"}
    second = client.post("/v1/batches", json=body).json
    batching.work_due()
    assert client.delete(f"/v1/files/{first['input_file_id']}").status_code == 409
    done = [finish(client, batching, worker, batch) for batch in (first, second)]
    outputs = [content(client, batch["output_file_id"]) for batch in done]
    assert [[entry["custom_id"] for entry in output] for output in outputs] == [["a"], ["a"]]
    assert outputs[0][0]["response"]["request_id"] != outputs[1][0]["response"]["request_id"]
    assert client.delete(f"/v1/files/{first['input_file_id']}").status_code == 200


def test_a_deleted_file_makes_no_batch(client: FlaskClient) -> None:
    file_id = upload(client).json["id"]
    client.delete(f"/v1/files/{file_id}")
    refused = client.post(
        "/v1/batches", json={"input_file_id": file_id, "endpoint": IMAGES, "completion_window": "24h"}
    )
    assert (refused.status_code, refused.json["error"]["code"]) == (404, "not_found")


def test_what_a_batch_made_is_no_input_of_another(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create
) -> None:
    output = finish(client, batching, worker, create([line("a")]))["output_file_id"]
    refused = client.post("/v1/batches", json={"input_file_id": output, "endpoint": IMAGES, "completion_window": "24h"})
    assert refused.status_code == 404
    assert "purpose batch" in refused.json["error"]["message"]


@pytest.mark.parametrize(
    "metadata",
    [{str(number): "" for number in range(17)}, {"k" * 65: ""}, {"k": "v" * 513}, {"k": 1}, {"": ""}, [], "text"],
)
def test_metadata_beyond_its_limits_is_refused(client: FlaskClient, metadata: Any) -> None:
    body = {"input_file_id": upload(client).json["id"], "endpoint": IMAGES, "completion_window": "24h"}
    refused = client.post("/v1/batches", json={**body, "metadata": metadata})
    assert (refused.status_code, refused.json["error"]["param"]) == (400, "metadata")


def test_what_a_worker_stores_late_of_refused_lines_counts_for_nothing(
    client: FlaskClient,
    batching: BatchWorker,
    worker: FakeWorker,
    create: Create,
    storage: MemoryStorage,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It froze before it stored a chunk, lost its claim meanwhile, and its chunk was a shorter one."""
    batch = create([line("good"), *(line(f"bad-{number}", n=99) for number in range(3))])
    put = storage.put

    def frozen(key: str, data: bytes, content_type: str) -> None:
        if "/refusals/" in key:
            monkeypatch.setattr(storage, "put", put)
            monkeypatch.setattr("worker.judging._CHUNK_LINES", 500)
            redis.zadd("rm:batches_due", {batch["id"]: 0})
            batching.work_due()
        put(key, data, content_type)

    monkeypatch.setattr(storage, "put", frozen)
    monkeypatch.setattr("worker.judging._CHUNK_LINES", 2)
    done = finish(client, batching, worker, batch)
    assert len([key for key in storage.objects if "/refusals/" in key]) == 2, "both stored theirs"
    entries = content(client, done["error_file_id"])
    assert [(entry["custom_id"], entry["error"]["code"]) for entry in entries] == [
        (f"bad-{number}", "invalid_value") for number in range(3)
    ]

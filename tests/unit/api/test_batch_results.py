"""What people have of a batch beside its files: the manifest, the archive, webhooks, events."""

from __future__ import annotations

import csv
import io
import zipfile

from flask.testing import FlaskClient
from redis import Redis

from shared.deliveries import Deliveries
from tests.fake_worker import FakeWorker
from tests.unit.api.batch_lines import Create, finish, line
from worker.batching import BatchWorker


def test_the_manifest_and_the_archive_name_each_picture(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create
) -> None:
    names = ["../../etc/passwd", "Fox", "fox", "con", "two"]
    lines = [line(name, **({"n": 2} if name == "two" else {})) for name in names]
    batch = create([*lines, line("bad", n=99), line("broken", prompt="fail: render_failed")])
    finish(client, batching, worker, batch)
    answer = client.get(f"/v1/batches/{batch['id']}/manifest", buffered=True)
    assert answer.content_type.startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    files = ["etc-passwd.png", "Fox.png", "fox~3.png", "_con.png", "two_0.png", "two_1.png"]
    assert [row["file"] for row in rows] == [*files, "", ""]
    assert [row["status"] for row in rows] == ["succeeded"] * 6 + ["refused", "failed"]
    assert rows[-1]["error_code"] == "render_failed"
    archive = client.get(f"/v1/batches/{batch['id']}/archive", buffered=True)
    assert archive.content_type == "application/zip"
    with zipfile.ZipFile(io.BytesIO(archive.data)) as bundle:
        assert bundle.testzip() is None
        assert bundle.namelist() == [*files, "manifest.csv"]
        assert {entry.compress_type for entry in bundle.infolist()} == {zipfile.ZIP_STORED}
        assert bundle.read("Fox.png").startswith(b"\x89PNG")
        assert bundle.read("manifest.csv").decode() == answer.text


def test_the_archive_of_a_running_batch_has_what_is_finished(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create
) -> None:
    batch = create([line("a"), line("hold", prompt="hold")])
    batching.work_due()
    worker.work()
    archive = client.get(f"/v1/batches/{batch['id']}/archive", buffered=True)
    with zipfile.ZipFile(io.BytesIO(archive.data)) as bundle:
        assert bundle.namelist() == ["a.png", "manifest.csv"]


def test_endpoints_are_told_of_its_end(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create, redis: Redis
) -> None:
    client.post("/v1/webhooks", json={"url": "https://93.184.216.34/", "events": ["batch.completed"]})
    batch = create([line("a")])
    finish(client, batching, worker, batch)
    (delivery,) = Deliveries(redis).page("alice", limit=10, after=None)[0]
    assert (delivery.event, delivery.job, delivery.is_of_batch) == ("batch.completed", batch["id"], True)
    (shown,) = client.get("/v1/webhooks/deliveries").json["data"]
    assert (shown["batch_id"], shown["job_id"]) == (batch["id"], None)


def test_a_ticket_is_published_for_a_new_batch(create: Create, tickets: list[tuple[str, str]]) -> None:
    create([line("a")])
    assert tickets == [("batch", "batches")]

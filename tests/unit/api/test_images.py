"""Finished and uploaded pictures."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from shared.errors import RendermillError
from shared.images import Image
from shared.links import LINK_LIFETIME_S, ImageLinks
from tests.fake_worker import FakeWorker
from tests.memory_storage import MemoryStorage
from tests.unit.api import pictures
from tests.unit.api.conftest import Post

SEED_FIELDS = {"id", "name", "url", "width", "height", "format", "size", "created_at"}


@pytest.fixture
def image(client: FlaskClient, submit: Post, worker: FakeWorker) -> dict[str, Any]:
    """A finished picture of alice's."""
    job_id = submit(name="Füchse", seed=3).json["id"]
    worker.work()
    found: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json["images"][0]
    return found


def upload(client: FlaskClient, data: bytes, name: str | None = "a fox", **more: str) -> Any:
    form: dict[str, Any] = {"image": (io.BytesIO(data), "whatever.gif"), **more}
    if name is not None:
        form["name"] = name
    return client.post("/v1/images/upload", data=form)


def test_an_image_has_the_fields_of_its_seed_and_ours(client: FlaskClient, image: dict[str, Any]) -> None:
    assert set(image) == SEED_FIELDS | {"seed", "model", "job_id"}
    assert re.fullmatch(r"image_[a-zA-Z0-9]{24}", image["id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", image["created_at"])
    assert (image["name"], image["url"], image["width"], image["height"]) == ("Füchse", None, 256, 256)
    assert (image["format"], image["seed"], image["model"]) == ("jpeg", 3, "ByteDance/SDXL-Lightning")
    assert client.get(f"/v1/images/{image['id']}").json == image


def test_a_download_is_the_file(client: FlaskClient, image: dict[str, Any]) -> None:
    answer = client.get(f"/v1/images/{image['id']}/download")
    assert answer.content_type == "image/jpeg"
    assert len(answer.data) == image["size"] == answer.content_length
    assert pictures.opened(answer.data).size == (256, 256)
    assert f'filename="{image["id"]}.jpeg"' in answer.headers["Content-Disposition"]
    assert "filename*=UTF-8''F%C3%BCchse.jpeg" in answer.headers["Content-Disposition"]
    assert "private" in answer.headers["Cache-Control"]
    head = client.head(f"/v1/images/{image['id']}/download")
    assert (head.data, head.content_length) == (b"", image["size"])
    known = client.get(f"/v1/images/{image['id']}/download", headers={"If-None-Match": answer.headers["ETag"]})
    assert (known.status_code, known.data) == (304, b"")


def test_a_file_that_is_gone_is_404_and_a_storage_that_is_away_503(
    client: FlaskClient, image: dict[str, Any], storage: MemoryStorage
) -> None:
    storage.away = True
    assert client.get(f"/v1/images/{image['id']}/download").status_code == 503
    storage.away = False
    storage.objects.clear()
    assert client.get(f"/v1/images/{image['id']}/download").status_code == 404


def test_a_published_image_is_public_until_it_is_unpublished(client: FlaskClient, image: dict[str, Any]) -> None:
    stranger = client.application.test_client()
    path = f"/images/{image['id']}.jpeg"
    assert stranger.get(path).status_code == 404
    for _ in range(2):
        answer = client.post(f"/v1/images/{image['id']}/publish")
        assert (answer.status_code, answer.json["url"]) == (201, f"http://farm.test{path}")
    assert client.get(f"/v1/images/{image['id']}").json["url"] == f"http://farm.test{path}"
    public = stranger.get(path)
    assert (public.status_code, public.content_type) == (200, "image/jpeg")
    assert public.headers["Cache-Control"] == "public, max-age=60"
    assert stranger.get(f"/images/{image['id']}.png").status_code == 404
    answer = client.post(f"/v1/images/{image['id']}/unpublish")
    assert (answer.status_code, answer.json["url"]) == (201, None)
    gone = stranger.get(path)
    assert (gone.status_code, gone.headers["Cache-Control"]) == (404, "no-store")


def test_a_deleted_image_is_gone_with_its_file(
    client: FlaskClient, image: dict[str, Any], storage: MemoryStorage
) -> None:
    client.post(f"/v1/images/{image['id']}/publish")
    assert client.delete(f"/v1/images/{image['id']}").status_code == 204
    assert not storage.objects
    assert client.get(f"/images/{image['id']}.jpeg").status_code == 404
    assert client.delete(f"/v1/images/{image['id']}").status_code == 404
    assert client.get(f"/v1/jobs/{image['job_id']}").json["images"] == []


def test_an_image_past_its_retention_is_410(client: FlaskClient, redis: Any) -> None:
    redis.set("rm:gone:image_old", "alice")
    assert client.get("/v1/images/image_old").status_code == 410
    assert client.get("/v1/images/image_never").status_code == 404


def test_pages_of_images_lead_forth_and_back(client: FlaskClient, submit: Post, worker: FakeWorker) -> None:
    submit(n=5, seed=0)
    worker.work()
    first = client.get("/v1/images?take=2").json
    assert set(first) == {"data", "links"}
    assert [image["seed"] for image in first["data"]] == [4, 3]
    assert first["links"]["previous"] is None
    second = client.get(first["links"]["next"]).json
    assert [image["seed"] for image in second["data"]] == [2, 1]
    third = client.get(second["links"]["next"]).json
    assert ([image["seed"] for image in third["data"]], third["links"]["next"]) == ([0], None)
    assert client.get(third["links"]["previous"]).json == second
    assert client.get(second["links"]["previous"]).json == first
    assert len(client.get("/v1/images").json["data"]) == 5
    assert client.get("/v1/images?from=image_nothing").status_code == 400


# Uploads


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
def test_an_upload_becomes_an_image_as_it_is(client: FlaskClient, storage: MemoryStorage, format_: str) -> None:
    data = pictures.encoded(pictures.Image.new("RGB", (64, 48), "red"), format_)
    answer = upload(client, data)
    assert answer.status_code == 201
    image = answer.json
    assert (image["name"], image["width"], image["height"]) == ("a fox", 64, 48)
    assert (image["format"], image["size"], image["job_id"]) == (format_.lower(), len(data), None)
    assert storage.objects == {f"uploads/{image['id']}.{format_.lower()}": data}
    assert client.get(f"/v1/images/{image['id']}/download").data == data
    assert client.get("/v1/images").json["data"] == [image]


def test_a_wrong_upload_is_refused_field_by_field(client: FlaskClient, storage: MemoryStorage) -> None:
    missing = client.post("/v1/images/upload", data={"nick": "x"}, content_type="multipart/form-data")
    assert (missing.status_code, set(missing.json["errors"])) == (422, {"image", "name", "nick"})
    text = client.post("/v1/images/upload", data={"image": "x", "name": "x"}, content_type="multipart/form-data")
    assert text.json["errors"] == {"image": ["must be a file"]}
    bad = upload(client, b"GIF89a")
    assert (bad.status_code, bad.json["code"]) == (422, "bad_image")
    assert upload(client, pictures.png()[:60]).status_code == 422
    assert not storage.objects


# Links


def test_a_link_works_without_a_key_for_an_hour(app: Flask, client: FlaskClient, image: dict[str, Any]) -> None:
    farm = app.extensions["rendermill"]
    record = farm.images.get(image["id"], "alice")
    url = farm.links.url(record)
    assert url.startswith(f"http://farm.test/images/{image['id']}.jpeg?token=")
    stranger = app.test_client()
    answer = stranger.get(url)
    assert (answer.status_code, len(answer.data)) == (200, image["size"])
    assert "private" in answer.headers["Cache-Control"]
    assert stranger.get(url[:-2] + "xx").status_code == 404
    other = url.replace(image["id"], "image_" + "0" * 24)
    assert stranger.get(other).status_code == 404
    client.delete(f"/v1/images/{image['id']}")
    assert stranger.get(url).status_code == 404


def test_a_link_is_dead_after_its_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    links = ImageLinks("secret", "http://farm.test")
    picture = Image(id="image_1", account="a", name="n", key="k", width=1, height=1, format="png", size=1, created_at=0)
    token = links.url(picture).partition("token=")[2]
    assert links.allows(token, "image_1")
    assert not ImageLinks("another", "http://farm.test").allows(token, "image_1")
    real = links._signer.make_signer("x").get_timestamp  # type: ignore[union-attr]
    monkeypatch.setattr("itsdangerous.timed.TimestampSigner.get_timestamp", lambda _: real() + LINK_LIFETIME_S + 1)
    assert not links.allows(token, "image_1")


def test_without_a_secret_there_are_no_links() -> None:
    links = ImageLinks("", "http://farm.test")
    with pytest.raises(RendermillError, match="RENDERMILL_SECRET_KEY"):
        links.check()
    assert not links.allows("anything", "image_1")

"""The images a job starts from."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.storage import StorageError
from tests.fake_worker import FakeWorker
from tests.memory_storage import MemoryStorage
from tests.unit.api import pictures
from tests.unit.api.conftest import Post
from tests.unit.api.pictures import base64_text

WHITE, BLACK, RED = (255, 255, 255), (0, 0, 0), (255, 0, 0)


def stored(storage: MemoryStorage, name: str = "image") -> Image.Image:
    """The one input image of this name."""
    (key,) = [key for key in storage.objects if key.startswith("inputs/") and key.endswith(f"/{name}.png")]
    picture = pictures.opened(storage.objects[key])
    assert picture.format == "PNG"
    return picture


def refused(answer: Any, field: str = "input_image") -> str:
    """Why an image was refused."""
    assert (answer.status_code, answer.json["code"]) == (422, "bad_image"), answer.text
    (why,) = answer.json["errors"][field]
    return str(why)


# Where images come from


@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: text,
        lambda text: text.rstrip("="),
        lambda text: "\n".join(text[at : at + 60] for at in range(0, len(text), 60)),
        lambda text: f"data:image/png;base64,{text}",
        lambda text: f"data:text/plain;charset=utf-8;base64,{text}",
        lambda text: f"DATA:;BASE64,{text}",
    ],
)
def test_an_image_comes_as_base64_or_as_a_data_url(submit: Post, storage: MemoryStorage, wrap: Any) -> None:
    answer = submit(input_image=wrap(base64_text(pictures.png(50, 40))))
    assert answer.status_code == 202, answer.text
    assert stored(storage).size == (50, 40)
    assert answer.json["input"]["input_image"] == "stored with the job"
    assert answer.json["input"]["strength"] == 0.6
    assert next(iter(storage.objects)) == f"inputs/{answer.json['id']}/image.png"


def test_an_uploaded_and_a_rendered_image_are_used_by_their_ids(
    client: FlaskClient, submit: Post, worker: FakeWorker, storage: MemoryStorage
) -> None:
    form = {"image": (io.BytesIO(pictures.png(33, 44)), "x"), "name": "x"}
    uploaded = client.post("/v1/images/upload", data=form).json["id"]
    submit()
    worker.work()
    rendered = client.get("/v1/images").json["data"][0]["id"]
    for image_id, size in ((uploaded, (33, 44)), (rendered, (256, 256))):
        storage_before = set(storage.objects)
        assert submit(input_image=image_id).status_code == 202
        (key,) = set(storage.objects) - storage_before
        assert pictures.opened(storage.objects[key]).size == size
    assert "There is no image" in refused(submit(input_image="image_" + "0" * 24))


class Pictures(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = {"/fox.png": pictures.png(20, 30), "/large.png": b"x" * 300_000}.get(self.path)
        self.send_response(200 if body else 302)
        self.send_header("Location", "/fox.png")
        self.end_headers()
        try:
            self.wfile.write(body or b"")
        except OSError:
            self.close_connection = True  # the client had enough

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


def test_an_image_is_fetched_from_an_address(submit: Post, storage: MemoryStorage, server: str) -> None:
    assert submit(input_image=f"{server}/fox.png").status_code == 202
    assert stored(storage).size == (20, 30)
    assert "larger than 200000 bytes" in refused(submit(input_image=f"{server}/large.png"))
    assert "302" in refused(submit(input_image=f"{server}/elsewhere.png"))


@pytest.mark.parametrize(
    "url", ["https://10.0.0.1/x.png", "https://[::1]/x.png", "http://169.254.169.254/latest", "https://user@host/"]
)
def test_an_address_of_ours_is_not_fetched(submit: Post, url: str) -> None:
    assert "may not be fetched" in refused(submit(input_image=url))


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("not base64!", "neither base64"),
        ("ftp://example.com/x.png", "neither base64"),
        ("data:image/png,abc", "not base64"),
        (base64_text(b"hello"), "no PNG, JPEG or WebP"),
        ("A" * 300_000, "more than 200000 bytes"),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(
    submit: Post, storage: MemoryStorage, source: str, why: str
) -> None:
    assert why in refused(submit(input_image=source))
    assert not storage.objects


def test_both_images_are_named_where_both_are_wrong(submit: Post) -> None:
    answer = submit(model="flux-fill", input_image="aGk=", mask_image="aGk=")
    assert set(answer.json["errors"]) == {"input_image", "mask_image"}


# What images are


def test_a_decompression_bomb_is_refused_by_its_header(submit: Post) -> None:
    assert len(pictures.bomb()) < 100
    assert "30000x30000" in refused(submit(input_image=base64_text(pictures.bomb())))


def test_an_image_of_too_many_pixels_is_refused(submit: Post) -> None:
    assert "1001000 pixels; at most 1000000" in refused(submit(input_image=base64_text(pictures.png(1001, 1000))))


def test_a_damaged_image_is_refused(submit: Post) -> None:
    noise = Image.effect_noise((200, 200), 80)
    for format_ in ("PNG", "JPEG", "WEBP"):
        data = pictures.encoded(noise, format_)
        assert "damaged" in refused(submit(input_image=base64_text(data[: len(data) // 2]))), format_


@pytest.mark.parametrize("format_", ["GIF", "BMP", "TIFF", "ICO"])
def test_another_format_is_refused_whatever_it_calls_itself(submit: Post, format_: str) -> None:
    data = base64_text(pictures.encoded(Image.new("RGB", (32, 32)), format_))
    assert "no PNG, JPEG or WebP" in refused(submit(input_image=f"data:image/png;base64,{data}"))


def test_a_rotated_image_is_turned_upright(submit: Post, storage: MemoryStorage) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert (
        submit(input_image=base64_text(pictures.encoded(Image.new("RGB", (60, 40)), "JPEG", exif=exif))).status_code
        == 202
    )
    assert stored(storage).size == (40, 60)
    assert not stored(storage).getexif()


@pytest.mark.parametrize(
    ("picture", "format_"),
    [
        (Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG"),
        (Image.new("P", (32, 32)), "PNG"),
        (Image.new("1", (32, 32)), "PNG"),
        (Image.new("LA", (32, 32)), "PNG"),
        (Image.new("I;16", (32, 32), 65535), "PNG"),
    ],
)
def test_every_mode_becomes_rgb(submit: Post, storage: MemoryStorage, picture: Image.Image, format_: str) -> None:
    answer = submit(input_image=base64_text(pictures.encoded(picture, format_)))
    assert answer.status_code == 202, answer.text
    assert stored(storage).mode == "RGB"


def test_grey_of_16_bits_is_scaled_and_not_cut_off(submit: Post, storage: MemoryStorage) -> None:
    assert submit(input_image=base64_text(pictures.encoded(Image.new("I;16", (8, 8), 32768)))).status_code == 202
    assert stored(storage).getpixel((0, 0)) == (127, 127, 127)


def test_what_is_transparent_is_shown_on_white(submit: Post, storage: MemoryStorage) -> None:
    picture = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    picture.putpixel((0, 0), (255, 0, 0, 255))
    assert submit(input_image=base64_text(pictures.encoded(picture))).status_code == 202
    assert [stored(storage).getpixel(at) for at in ((0, 0), (1, 0))] == [RED, WHITE]


@pytest.mark.parametrize("format_", ["PNG", "WEBP"])
def test_an_animated_image_gives_its_first_frame_and_a_warning(
    submit: Post, storage: MemoryStorage, format_: str
) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    data = pictures.encoded(frames[0], format_, save_all=True, append_images=frames[1:], lossless=True)
    answer = submit(input_image=base64_text(data))
    assert (answer.status_code, answer.json["warnings"]) == (202, ["input_image is animated; its first frame was used"])
    assert stored(storage).getpixel((0, 0)) == RED


# Sizes


def sized(client: FlaskClient, picture: bytes, **more: Any) -> tuple[tuple[int, int], list[str]]:
    """The size of the pictures that a job without width and height makes of this one, and its warnings."""
    body = {"model": "sdxl-lightning", "prompt": "x", "input_image": base64_text(picture), **more}
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    return (answer.json["input"]["width"], answer.json["input"]["height"]), answer.json["warnings"]


def test_the_pictures_have_the_size_of_the_input_image(client: FlaskClient) -> None:
    assert sized(client, pictures.png(512, 384)) == ((512, 384), [])
    mask = base64_text(pictures.png(512, 384, mode="L", colour="white"))
    assert sized(client, pictures.png(512, 384), model="flux-fill", mask_image=mask) == ((512, 384), [])


@pytest.mark.parametrize(
    ("picture", "expected"),
    [((519, 389), (512, 384)), ((64, 48), (336, 256)), ((500, 900), (496, 896)), ((3000, 20), (2048, 256))],
)
def test_a_size_that_the_model_cannot_make_is_fitted_with_a_warning(
    client: FlaskClient, picture: tuple[int, int], expected: tuple[int, int]
) -> None:
    size, (warning,) = sized(client, pictures.png(*picture))
    assert size == expected
    assert f"the pictures are {expected[0]}x{expected[1]}: input_image is {picture[0]}x{picture[1]}" in warning


def test_a_size_that_is_asked_for_counts(client: FlaskClient) -> None:
    assert sized(client, pictures.png(512, 384), width=256, height=256) == ((256, 256), [])
    assert sized(client, pictures.png(512, 384), width=256) == ((256, 1024), [])


# Masks


def fill(submit: Post, mask: Image.Image, image: bytes | None = None) -> Any:
    images = {
        "input_image": base64_text(image or pictures.png(64, 48)),
        "mask_image": base64_text(pictures.encoded(mask)),
    }
    return submit(model="flux-fill", **images)


def test_a_mask_is_grey_and_white_stays_white(submit: Post, storage: MemoryStorage) -> None:
    mask = Image.new("RGB", (64, 48), "black")
    mask.putpixel((1, 1), WHITE)
    answer = fill(submit, mask)
    assert (answer.status_code, answer.json["warnings"]) == (202, [])
    grey = stored(storage, "mask")
    assert (grey.mode, grey.getpixel((1, 1)), grey.getpixel((0, 0))) == ("L", 255, 0)


def test_a_mask_of_another_size_is_resized_with_a_warning(submit: Post, storage: MemoryStorage) -> None:
    answer = fill(submit, Image.new("L", (32, 32), 255))
    assert answer.json["warnings"] == ["mask_image was resized from 32x32 to 64x48, the size of input_image"]
    assert stored(storage, "mask").size == (64, 48)


def test_what_is_transparent_in_a_mask_is_kept(submit: Post, storage: MemoryStorage) -> None:
    mask = Image.new("RGBA", (64, 48), (255, 255, 255, 0))
    mask.putpixel((1, 1), (255, 255, 255, 255))
    fill(submit, mask)
    grey = stored(storage, "mask")
    assert [grey.getpixel(at) for at in ((1, 1), (0, 0))] == [255, 0]


def test_a_mask_needs_an_image_and_a_model_that_takes_it(submit: Post) -> None:
    mask = base64_text(pictures.png(mode="L", colour="white"))
    assert list(submit(model="flux-fill", mask_image=mask).json["errors"]) == ["input_image"]
    answer = submit(input_image=mask, mask_image=mask)
    assert (answer.json["code"], list(answer.json["errors"])) == ("unsupported_parameter", ["mask_image"])


def test_where_one_image_cannot_be_stored_none_is_left(
    submit: Post, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put_images_only(self: MemoryStorage, key: str, data: bytes, _: str) -> None:
        if key.endswith("mask.png"):
            raise StorageError("the disk is full")
        self.objects[key] = data

    monkeypatch.setattr(MemoryStorage, "put", put_images_only)
    assert fill(submit, Image.new("L", (64, 48), 255)).status_code == 503
    assert not storage.objects


def test_images_are_noted_before_they_are_stored(
    submit: Post, storage: MemoryStorage, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any, **__: Any) -> None:
        raise RedisConnectionError("it may have been accepted all the same")

    monkeypatch.setattr("shared.scheduler.Scheduler.accept", dies)
    assert submit(input_image=base64_text(pictures.png())).status_code == 503
    (key,) = storage.objects
    assert redis.zrange("rm:unclaimed", 0, -1) == [key.removesuffix("image.png")]


def test_images_of_an_accepted_job_are_noted_no_more(submit: Post, redis: Redis) -> None:
    redis.zadd("rm:unclaimed", {"inputs/job_of_another/": 1.0})
    assert submit(input_image=base64_text(pictures.png())).status_code == 202
    assert redis.zrange("rm:unclaimed", 0, -1) == ["inputs/job_of_another/"]

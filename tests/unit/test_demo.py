"""The demo's parts: it believes only signed webhooks, and finds the pictures in every dialect's answer."""

from __future__ import annotations

import base64
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from standardwebhooks import Webhook

from client import Client
from farm.demo.pictures import PictureError, contact_sheet, pictures_of, save
from farm.demo.receiver import Receiver

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


def _picture(side: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(file, "png")
    return file.getvalue()


def _signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    now = datetime.now(UTC)
    signature = Webhook(secret).sign("msg_1", now, body.decode())
    return {"webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}


def test_a_signed_webhook_is_logged_and_a_forged_one_refused(tmp_path: Path) -> None:
    body = json.dumps({"type": "job.succeeded", "data": {"id": "job_1"}}).encode()
    log = tmp_path / "webhooks.jsonl"
    with Receiver(log) as receiver:
        receiver.trust(SECRET)
        assert httpx.post(receiver.url, content=body, headers=_signed(body)).status_code == 200
        forged = body.replace(b"job_1", b"job_2")
        assert httpx.post(receiver.url, content=forged, headers=_signed(body)).status_code == 401
        assert receiver.verified("job_1")
        assert not receiver.verified("job_2")
        assert receiver.refused == 1
    (entry,) = map(json.loads, log.read_text().splitlines())
    assert (entry["webhook_id"], entry["type"], entry["verified"]) == ("msg_1", "job.succeeded", True)


def test_before_a_secret_is_known_no_webhook_is_believed(tmp_path: Path) -> None:
    body = b'{"type": "job.succeeded", "data": {"id": "job_1"}}'
    with Receiver(tmp_path / "log") as receiver:
        assert httpx.post(receiver.url, content=body, headers=_signed(body)).status_code == 401


@pytest.mark.parametrize(
    "answer",
    [
        {"object": "job", "id": "job_1", "images": [{"id": "image_1"}]},
        {"id": "image_1", "name": "cat", "format": "png"},
        {"created": 1, "data": [{"b64_json": base64.b64encode(b"file").decode()}]},
        {"images": [{"index": 0, "image": base64.b64encode(b"file").decode()}], "inference_time": 1},
    ],
)
def test_pictures_are_found_in_the_answer_of_every_dialect(answer: dict[str, Any]) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=b"file"))
    with Client("http://farm", "key", transport=transport) as farm:
        assert pictures_of(answer, farm) == [b"file"]


def test_an_answer_without_pictures_is_an_error() -> None:
    with Client("http://farm", "key") as farm, pytest.raises(PictureError, match="holds no picture"):
        pictures_of({"data": []}, farm)


def test_pictures_are_named_after_their_line_and_kind(tmp_path: Path) -> None:
    files = save([_picture(), _picture()], tmp_path, 3, "A cat, in *space*!")
    assert [file.name for file in files] == ["03-a-cat-in-space-0.png", "03-a-cat-in-space-1.png"]


def test_a_file_that_is_no_picture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="picture 0 cannot be opened"):
        save([b"<html>"], tmp_path, 1, "cat")


def test_the_contact_sheet_has_a_row_for_every_four_pictures(tmp_path: Path) -> None:
    files = save([_picture()] * 5, tmp_path, 1, "cat")
    heights = []
    for count in (4, 5):
        contact_sheet([(file, "a caption that is much too long " * 5) for file in files[:count]], tmp_path / "s.jpg")
        with Image.open(tmp_path / "s.jpg") as sheet:
            heights.append(sheet.height)
    assert heights[1] > heights[0]

"""The receiver of webhooks: it believes only what a trusted secret signed, and stands whatever it is sent."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx
import pytest
from standardwebhooks import Webhook

from client.receiver import MAX_BYTES, Message, Receiver

SECRET, OTHER = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
EVENT = {"type": "job.succeeded", "timestamp": "2026-01-02T03:04:05Z", "data": {"id": "job_1"}}
BODY = json.dumps(EVENT).encode()


def signed(body: bytes, secret: str, at: datetime | None = None) -> dict[str, str]:
    moment = at or datetime.now(UTC)
    signature = Webhook(secret).sign("msg_1", moment, body.decode())
    return {"webhook-id": "msg_1", "webhook-timestamp": str(int(moment.timestamp())), "webhook-signature": signature}


class Listening:
    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.receiver = Receiver(self.messages.append)
        self.receiver.trust(SECRET, OTHER)

    def post(self, body: bytes, headers: dict[str, str]) -> int:
        return httpx.post(self.receiver.url, content=body, headers=headers).status_code


@pytest.fixture
def listening() -> Iterator[Listening]:
    listening = Listening()
    with listening.receiver:
        yield listening


def test_what_any_trusted_secret_signed_is_taken_with_its_headers(listening: Listening) -> None:
    for secret in (SECRET, OTHER):
        assert listening.post(BODY, signed(BODY, secret)) == 200
    first, second = listening.messages
    assert first.event == second.event == EVENT
    assert (first.id, first.sender, first.body) == ("msg_1", "127.0.0.1", BODY)
    assert (
        first.raw
        == {"received_at": first.received_at.isoformat(timespec="milliseconds"), "webhook_id": "msg_1"} | EVENT
    )


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"webhook-id": "msg_1"},
        signed(BODY + b" ", SECRET),
        signed(BODY, SECRET, datetime.now(UTC) - timedelta(hours=1)),
        signed(BODY, SECRET) | {"webhook-signature": "nonsense"},
        signed(BODY, SECRET) | {"webhook-signature": "v1,%%%"},
        signed(BODY, SECRET) | {"webhook-timestamp": "soon"},
    ],
)
def test_what_is_not_rightly_signed_is_refused_and_told_of(listening: Listening, headers: dict[str, str]) -> None:
    assert listening.post(BODY, headers) == 401
    (message,) = listening.messages
    assert message.event is None


@pytest.mark.parametrize("body", [b"no json", b"[]", b"3"])
def test_a_signed_body_that_is_no_event_is_refused(listening: Listening, body: bytes) -> None:
    assert listening.post(body, signed(body, SECRET)) == 401


def test_bytes_that_are_no_text_are_refused(listening: Listening) -> None:
    assert listening.post(b"\xff\xfe", signed(BODY, SECRET)) == 401


@pytest.mark.parametrize(("length", "status"), [(str(MAX_BYTES + 1), 413), ("many", 411), (None, 411)])
def test_a_body_of_no_or_too_great_a_length_is_not_read(listening: Listening, length: str | None, status: int) -> None:
    parts = urlsplit(listening.receiver.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=5) as connection:
        header = "" if length is None else f"content-length: {length}\r\n"
        connection.sendall(f"POST / HTTP/1.1\r\n{header}\r\n".encode())
        assert f" {status} ".encode() in connection.recv(100)
    assert listening.messages == []


def test_a_secret_that_is_none_is_refused() -> None:
    receiver = Receiver(lambda _: None)
    for text in ("", "whsec_", "whsec_ä"):
        with pytest.raises(ValueError, match="whsec_"):
            receiver.trust(text)
    with receiver:
        pass

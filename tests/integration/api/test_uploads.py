"""Uploads that go wrong on their way, written to the socket by hand: an answer where one is possible, and no traces."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.api.conftest import Farm
from tests.servers import wait_until

LINE = b'{"custom_id": "a"}\n'
#: Beyond what one part of an upload to S3 has.
LARGE = LINE * 1_000_000
HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
TAIL = b'\r\n--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--\r\n'


@pytest.fixture(autouse=True)
def _nothing_is_left(farm: Farm, http: httpx.Client) -> Iterator[None]:
    """After a test there is no file, neither in a list nor in S3."""
    yield
    wait_until(lambda: not farm.storage.keys("files/"), "nothing is left in S3")
    assert http.get("/v1/files").json()["data"] == []


def connection(farm: Farm, *headers: str) -> socket.socket:
    """A connection on which the head of an upload was sent."""
    host, port = farm.url.removeprefix("http://").split(":")
    opened = socket.create_connection((host, int(port)), timeout=20)
    form = "Content-Type: multipart/form-data; boundary=x"
    lines = ("POST /v1/files HTTP/1.1", f"Host: {host}", f"x-api-key: {farm.key}", form, *headers)
    opened.sendall("".join(f"{line}\r\n" for line in lines).encode() + b"\r\n")
    return opened


@pytest.mark.parametrize("sent", [0, 10, len(HEAD) + 50, len(HEAD) + 10 * 2**20])
def test_an_upload_that_is_cut_off_leaves_nothing(farm: Farm, http: httpx.Client, sent: int) -> None:
    body = HEAD + LARGE + TAIL
    with connection(farm, f"Content-Length: {len(body)}") as opened:
        opened.sendall(body[:sent])
    assert http.get("/v1/models").status_code == 200


def test_an_upload_that_is_cut_off_behind_its_file_leaves_nothing(farm: Farm) -> None:
    with connection(farm, f"Content-Length: {len(HEAD + LINE + TAIL)}") as opened:
        opened.sendall(HEAD + LINE + TAIL[:30])
        opened.shutdown(socket.SHUT_WR)
        assert opened.recv(65536).startswith(b"HTTP/1.1 400")


def test_a_length_that_is_too_small_cuts_the_form(farm: Farm) -> None:
    with connection(farm, f"Content-Length: {len(HEAD) + 5}", "Connection: close") as opened:
        opened.sendall(HEAD + LINE + TAIL)
        assert opened.recv(65536).startswith(b"HTTP/1.1 400")


def test_a_length_beyond_the_limit_is_refused_before_anything_is_sent(farm: Farm) -> None:
    with connection(farm, f"Content-Length: {300 * 2**20}") as opened:
        assert opened.recv(65536).startswith(b"HTTP/1.1 413")


def test_a_slow_upload_holds_up_nobody(farm: Farm, http: httpx.Client) -> None:
    body = HEAD + LINE + TAIL
    step = len(body) // 9
    with connection(farm, f"Content-Length: {len(body)}") as opened:
        for at in range(0, len(body), step):
            opened.sendall(body[at : at + step])
            assert http.get("/v1/models").status_code == 200
            time.sleep(0.1)
        assert opened.recv(65536).startswith(b"HTTP/1.1 200")
    (file,) = http.get("/v1/files").json()["data"]
    assert file["bytes"] == len(LINE)
    http.delete(f"/v1/files/{file['id']}")


def test_an_upload_in_chunks_of_no_told_length_is_read(http: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        yield HEAD
        yield from (LINE for _ in range(100))
        yield TAIL

    answer = http.post("/v1/files", content=pieces(), headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert (answer.status_code, answer.json()["bytes"]) == (200, 100 * len(LINE))
    http.delete(f"/v1/files/{answer.json()['id']}")

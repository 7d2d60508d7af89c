"""Webhooks over real connections: receivers that are slow, die, lie, or are none of our business."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from redis import Redis

from shared import egress
from shared.egress import Networks
from shared.redis_client import connect
from tests.sending import Sending
from tests.servers import PATIENCE_S

LOOPBACK: Networks = (ipaddress.ip_network("127.0.0.0/8"),)
TIMEOUT_S = 0.5

Behaviour = Callable[[socket.socket], None]


@pytest.fixture
def redis(valkey_url: str) -> Iterator[Redis]:
    with connect(valkey_url) as client:
        client.flushall()
        yield client


def read_request(connection: socket.socket) -> None:
    """Read a whole request, however it is cut into packets."""
    with connection.makefile("rb") as file:
        headers = dict(line.lower().split(b": ", 1) for line in iter(file.readline, b"\r\n") if b": " in line)
        file.read(int(headers[b"content-length"]))


@contextmanager
def receiver(behave: Behaviour) -> Iterator[str]:
    """The address of a server that reads a request and then behaves in its own way."""

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                read_request(connection)
                behave(connection)
            except OSError:
                pass  # the sender had enough

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def answers(text: bytes) -> Behaviour:
    return lambda connection: connection.sendall(text)


def hangs(connection: socket.socket) -> None:
    connection.recv(1)


def drips(connection: socket.socket) -> None:
    """A byte now and then: no single read ever times out."""
    for byte in b"HTTP/1.1 200 OK\r\n" + b"x-endless: header\r\n" * 1000:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def floods(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 500 No\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)


@pytest.mark.parametrize(
    ("behave", "result"),
    [
        (answers(b"HTTP/1.1 204 No Content\r\n\r\n"), "delivered"),
        (answers(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"), "delivered"),
        (answers(b"HTTP/1.1 500 No\r\ncontent-length: 100\r\n\r\nhalf"), "http_5xx"),
        (answers(b"HTTP/1.1 307 Elsewhere\r\nlocation: http://127.0.0.1:1/\r\n\r\n"), "http_3xx"),
        (answers(b"HTTP/1.1 500 No\r\ncontent-encoding: gzip\r\n\r\nno gzip at all"), "http_5xx"),
        (answers(b"HTTP/1.1 200"), "unreachable"),
        (answers(b"what?\r\n\r\n"), "unreachable"),
        (answers(b""), "unreachable"),
        (hangs, "timeout"),
        (drips, "timeout"),
        (floods, "http_5xx"),
    ],
)
def test_however_a_receiver_behaves_one_attempt_is_recorded_in_time(
    redis: Redis, behave: Behaviour, result: str
) -> None:
    with receiver(behave) as url, egress.transport(LOOPBACK, TIMEOUT_S) as transport:
        sending = Sending(redis, transport)
        job_id = sending.finish(url=url)
        sending.sender.send_due()
    (attempt,) = sending.attempts(job_id)
    assert attempt["result"] == result
    assert attempt["seconds"] < 20, "the one that drips would take almost a minute"


def test_an_address_that_is_not_public_is_not_reached(redis: Redis) -> None:
    reached = threading.Event()
    with receiver(lambda _: reached.set()) as url, egress.transport((), TIMEOUT_S) as transport:
        sending = Sending(redis, transport)
        job_id = sending.finish(url=url)
        sending.sender.send_due()
    assert sending.delivery(job_id).status == "failed"
    assert sending.attempts(job_id)[0]["result"] == "blocked"
    assert not reached.is_set()


def test_hundreds_of_webhooks_to_a_dead_receiver_do_not_hold_up_another_account(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeout_s = 4 * TIMEOUT_S  # a busy machine must not make the quick one slow
    monkeypatch.setattr("worker.lanes._SLOW_S", timeout_s / 2)
    with (
        receiver(hangs) as dead,
        receiver(answers(b"HTTP/1.1 204 No Content\r\n\r\n")) as quick,
        egress.transport(LOOPBACK, timeout_s) as transport,
    ):
        sending = Sending(redis, transport, slow_places=2)
        to_dead = [sending.finish("mallory", url=dead) for _ in range(200)]
        to_quick = [sending.finish("alice", url=quick) for _ in range(20)]
        senders = [threading.Thread(target=sending.sender.send_due) for _ in range(4)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(PATIENCE_S)
    assert {sending.delivery(id_).status for id_ in to_quick} == {"delivered"}
    tried = [id_ for id_ in to_dead if sending.attempts(id_)]
    assert 4 <= len(tried) < 20, "the others were put off, without an attempt"
    assert {sending.delivery(id_).status for id_ in to_dead} == {"pending"}


def test_many_senders_at_once_send_each_webhook_once(redis: Redis) -> None:
    with (
        receiver(answers(b"HTTP/1.1 204 No Content\r\n\r\n")) as url,
        egress.transport(LOOPBACK, TIMEOUT_S) as transport,
    ):
        sending = Sending(redis, transport)
        ids = [sending.finish(url=url) for _ in range(60)]
        senders = [threading.Thread(target=sending.sender.send_due) for _ in range(8)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(PATIENCE_S)
    assert [len(sending.attempts(id_)) for id_ in ids] == [1] * 60

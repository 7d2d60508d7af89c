from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from shared import egress
from shared.settings import Settings

NOWHERE: egress.Networks = ()
LOOPBACK = egress.allowed_networks(Settings(egress_allow="127.0.0.0/8, ::1/128"))


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.0.0.1"),
        *("192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),
        *("224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1"),
        *("100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "5f00::1", "fc00::1", "fd00::1"),
        *("fe80::1", "fec0::1", "ff02::1"),
    ],
)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(egress.EgressBlocked, match="not a public address"):
        egress.check_address(ipaddress.ip_address(address), NOWHERE, plain=False)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_a_public_address_passes_for_https_only(address: str) -> None:
    egress.check_address(ipaddress.ip_address(address), NOWHERE, plain=False)
    with pytest.raises(egress.EgressBlocked, match="plain http"):
        egress.check_address(ipaddress.ip_address(address), NOWHERE, plain=True)


def test_an_allowed_network_passes_even_without_tls() -> None:
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        egress.check_address(ipaddress.ip_address(address), LOOPBACK, plain=True)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.com/", "https://"),
        ("http://example.com/", "https://"),
        ("//example.com/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("https://", "host name"),
        ("https://exa mple.com/", "without blanks"),
        ("https://example.com/\n", "without blanks"),
        ("https://user:secret@example.com/", "user name"),
        ("https://-example.com/", "host name"),
        ("https://example..com/", "host name"),
        ("https://2130706433/", "host name"),
        ("https://127.1/", "host name"),
        ("https://127.0.0.1/", "not a public"),
        ("https://[::1]/", "not a public"),
        ("https://[::1/", "no URL"),
        ("https://example.com:99999/", "no URL"),
        ("https://example.com/" + "a" * 2048, "2048"),
        ("https://bücher.example/", "ASCII"),
    ],
)
def test_an_address_that_can_never_be_allowed_is_refused_at_once(url: str, reason: str) -> None:
    with pytest.raises(egress.EgressBlocked, match=reason):
        egress.check_url(url, NOWHERE)


@pytest.mark.parametrize("url", ["https://example.com/hook?x=1", "https://example.com:8443/", "https://1.1.1.1/"])
def test_an_https_address_is_accepted_without_a_look_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "getaddrinfo")
    egress.check_url(url, NOWHERE)


def test_plain_http_is_accepted_where_a_network_is_allowed() -> None:
    egress.check_url("http://127.0.0.1:5000/hook", LOOPBACK)
    egress.check_url("http://localhost:5000/hook", LOOPBACK)
    egress.check_url("http://receiver:5000/hook", egress.allowed_networks(Settings(egress_allow="10.0.0.0/8")))
    with pytest.raises(egress.EgressBlocked, match="plain http"):
        egress.check_url("http://1.1.1.1/hook", LOOPBACK)
    with pytest.raises(egress.EgressBlocked, match="plain http to example"):
        egress.check_url("http://example.com/hook", LOOPBACK)


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    #: Requests on this connection.
    requests = 0

    def do_GET(self) -> None:
        self.requests += 1
        if self.path == "/mute" or (self.path == "/once" and self.requests > 1):
            self.close_connection = True
        elif self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "/")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/drip":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            for _ in range(1000):
                self.wfile.write(b".")
                self.wfile.flush()
                time.sleep(0.05)
        else:
            body = self.headers["Host"].encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.close_connection = True  # the client had enough


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


Resolver = Callable[..., list[tuple[Any, ...]]]


def resolver(*rounds: list[str]) -> Resolver:
    """A name server that answers each question after the other with other addresses."""
    answers = iter(rounds)
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: Any, **options: Any) -> list[tuple[Any, ...]]:
        if not host.endswith(".example"):
            return list(real(host, port, *args, **options))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in next(answers)]

    return getaddrinfo


def test_a_name_is_resolved_once_and_the_connection_goes_to_the_checked_address(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.egress.socket.getaddrinfo", resolver(["127.0.0.1"]))
    with egress.client(LOOPBACK, 5) as http:
        assert egress.fetch(http, f"http://receiver.example:{port}/", 1000) == f"receiver.example:{port}".encode()


def test_a_name_with_one_private_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.egress.socket.getaddrinfo", resolver(["1.1.1.1", "10.0.0.1"]))
    with egress.client(NOWHERE, 5) as http, pytest.raises(egress.EgressBlocked, match=r"10\.0\.0\.1"):
        http.get("https://rebound.example/")


def test_a_name_that_turns_private_after_the_submit_is_refused_when_it_is_called(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.egress.socket.getaddrinfo", resolver(["127.0.0.1"], ["10.0.0.1"]))
    with egress.client(LOOPBACK, 5) as http:
        last = {"Connection": "close"}
        assert http.get(f"http://rebound.example:{port}/", headers=last).status_code == 200
        with pytest.raises(egress.EgressBlocked):
            http.get(f"http://rebound.example:{port}/")


def test_a_connection_is_used_again_and_each_request_has_a_deadline_of_its_own(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A second look-up would lead elsewhere: what was checked stays where it is.
    monkeypatch.setattr("shared.egress.socket.getaddrinfo", resolver(["127.0.0.1"], ["10.0.0.1"]))
    with egress.client(LOOPBACK, 0.3) as http:
        url = f"http://receiver.example:{port}/"
        assert http.get(url).status_code == 200
        time.sleep(0.31)
        assert http.get(url).status_code == 200
        with pytest.raises(httpx.TimeoutException):
            egress.fetch(http, url + "drip", 10_000)


def test_a_request_on_a_kept_connection_that_is_closed_under_it_goes_out_again_over_a_checked_new_one(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_ups = resolver(["127.0.0.1"], ["127.0.0.1"], ["10.0.0.1"])
    monkeypatch.setattr("shared.egress.socket.getaddrinfo", look_ups)
    with egress.client(LOOPBACK, 5) as http:
        url = f"http://receiver.example:{port}/once"
        assert http.get(url).status_code == 200
        assert http.get(url).status_code == 200
        with pytest.raises(egress.EgressBlocked):
            http.get(url)


def test_a_new_connection_that_is_closed_without_an_answer_is_a_failure(port: int) -> None:
    with egress.client(LOOPBACK, 5) as http:
        for _ in range(2):
            with pytest.raises(httpx.RemoteProtocolError):
                http.get(f"http://127.0.0.1:{port}/mute")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
def test_no_spelling_of_loopback_gets_through(host: str, port: int) -> None:
    with egress.client(NOWHERE, 5) as http, pytest.raises((egress.EgressBlocked, httpx.HTTPError)):
        http.get(f"https://{host}:{port}/")


def test_headers_and_body_go_out_in_one_piece() -> None:
    pieces: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            pieces.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener, egress.client(LOOPBACK, 60) as http:
        threading.Thread(target=serve, daemon=True).start()
        answer = http.post(f"http://127.0.0.1:{listener.getsockname()[1]}/", content=b"the body")
    assert answer.status_code == 204
    assert pieces[0].endswith(b"\r\n\r\nthe body")


def test_a_large_body_arrives_whole() -> None:
    body = bytes(range(256)) * 1024
    arrived: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as file:
            for _ in iter(file.readline, b"\r\n"):
                pass
            arrived.append(file.read(len(body)))
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener, egress.client(LOOPBACK, 60) as http:
        threading.Thread(target=serve, daemon=True).start()
        http.post(f"http://127.0.0.1:{listener.getsockname()[1]}/", content=body)
    assert arrived == [body]


def test_a_redirect_is_not_followed(port: int) -> None:
    with egress.client(LOOPBACK, 5) as http, pytest.raises(httpx.HTTPStatusError, match="302"):
        egress.fetch(http, f"http://127.0.0.1:{port}/redirect", 1000)


def test_a_proxy_of_the_environment_is_not_used(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with egress.client(LOOPBACK, 5) as http:
        assert http.get(f"http://127.0.0.1:{port}/").status_code == 200


def test_an_answer_that_drips_ends_at_the_deadline(port: int) -> None:
    with egress.client(LOOPBACK, 0.3) as http, pytest.raises(httpx.TimeoutException):
        egress.fetch(http, f"http://127.0.0.1:{port}/drip", 10_000)


def test_an_answer_over_the_limit_is_dropped(port: int) -> None:
    with egress.client(LOOPBACK, 5) as http, pytest.raises(egress.TooLarge):
        egress.fetch(http, f"http://127.0.0.1:{port}/", 3)


def test_a_closed_port_and_an_unknown_name_are_errors_of_httpx(monkeypatch: pytest.MonkeyPatch) -> None:
    with egress.client(LOOPBACK, 5) as http:
        with pytest.raises(httpx.NetworkError):
            http.get("http://127.0.0.1:1/")

        def fails(*_: Any, **__: Any) -> None:
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr("shared.egress.socket.getaddrinfo", fails)
        with pytest.raises(httpx.NetworkError, match="cannot be resolved"):
            http.get("https://nobody.example/")


def test_the_name_and_not_the_address_goes_into_the_tls_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.egress.socket.getaddrinfo", resolver(["127.0.0.1"]))
    names: list[str | None] = []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.sni_callback = lambda _socket, name, _context: names.append(name)

    def shake_hands(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        # It has no certificate, so the handshake ends once the name was told.
        with connection, contextlib.suppress(ssl.SSLError):
            tls.wrap_socket(connection, server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=shake_hands, args=(listener,))
        thread.start()
        with egress.client(LOOPBACK, 5) as http, pytest.raises(httpx.NetworkError):
            http.get(f"https://receiver.example:{listener.getsockname()[1]}/")
        thread.join()
    assert names == ["receiver.example"]

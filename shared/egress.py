"""Requests to addresses that users name, such as a webhook's, without reaching what only we can reach.

A name is resolved once, all its addresses are checked, and the connection goes to an address that passed: there is
no second look-up that could be answered differently (DNS rebinding). The name itself still goes into `Host` and the
TLS handshake. Redirects are not followed, and proxies of the environment are not used.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ssl import SSLContext
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpcore
import httpx

from shared.settings import Settings, split_list

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

#: What `is_global` of the standard library calls public, and is not: multicast, relays and translators through which
#: a private address can be named, and blocks that are reserved.
_NOT_PUBLIC: Networks = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.88.99.0/24",  # 6to4 relay anycast
        "224.0.0.0/4",  # multicast
        "::/96",  # IPv4-compatible
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64, local
        "2001::/32",  # Teredo
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fec0::/10",  # site-local
        "ff00::/8",  # multicast
    )
)

#: A connection stays open for so long after an answer: a receiver that is told of job after job is greeted once. Its
#: address was checked when it was made.
_KEPT_OPEN_S = 5.0
_MAX_KEPT_OPEN = 64
#: A request up to this size goes out in one piece, headers and body, so that its receiver is woken once.
_HELD_BACK = 65536
#: Longer addresses are no addresses, and every proxy on the way cuts them off.
_MAX_URL = 2048
_PLAIN = "plain http is for networks of RENDERMILL_EGRESS_ALLOW alone"
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.IGNORECASE)


class EgressBlocked(Exception):
    """The address is none that may be reached from here; the message says why."""


class TooLarge(Exception):
    """The answer is larger than it may be."""


def allowed_networks(settings: Settings) -> Networks:
    """The networks of `settings.egress_allow`. Raises ValueError for what is no network."""
    return tuple(ipaddress.ip_network(network) for network in split_list(settings.egress_allow))


def check_url(url: str, allow: Networks) -> None:
    """Raise EgressBlocked for an address that cannot be allowed whatever its name resolves to. Asks no name server."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise EgressBlocked(f"it is no URL: {error}") from error
    if len(url) > _MAX_URL or not url.isascii() or any(character <= " " for character in url):
        raise EgressBlocked(f"it must be at most {_MAX_URL} characters of ASCII, without blanks")
    if parts.scheme != "https" and not (parts.scheme == "http" and allow):
        raise EgressBlocked(f"it must begin with https://; {_PLAIN}")
    if parts.username is not None or parts.password is not None:
        raise EgressBlocked("it must not contain a user name or password")
    _check_host(parts, host, allow)


def _check_host(parts: SplitResult, host: str, allow: Networks) -> None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        labels = host.removesuffix(".").split(".")
        if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
            raise EgressBlocked(f"{host!r} is no host name") from None
        if parts.scheme == "http" and host != "localhost" and all(network.is_loopback for network in allow):
            # Only names of this machine could lead into such networks. Into others any name could: what it leads to is
            # checked when it is used.
            raise EgressBlocked(f"plain http to {host} is not allowed; use https: {_PLAIN}") from None
    else:
        check_address(address, allow, plain=parts.scheme == "http")


def check_address(address: Address, allow: Networks, *, plain: bool) -> None:
    """Raise EgressBlocked unless `address` is public, or in a network of `allow`; `plain` http needs the latter."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in allow):
        return
    if plain:
        raise EgressBlocked(f"plain http to {address} is not allowed; use https: {_PLAIN}")
    if not address.is_global or any(address in network for network in _NOT_PUBLIC):
        raise EgressBlocked(f"{address} is not a public address, nor in a network of RENDERMILL_EGRESS_ALLOW")


def client(allow: Networks, timeout_s: float) -> httpx.Client:
    """A client for addresses that users name.

    Each request, from the look-up of its name to the last byte of its answer, must be done in `timeout_s`; a name
    server may add its own time. Raises EgressBlocked for addresses that are not allowed, besides the usual errors
    of httpx.
    """
    return httpx.Client(
        trust_env=False, follow_redirects=False, timeout=timeout_s, transport=transport(allow, timeout_s)
    )


def transport(allow: Networks, timeout_s: float) -> httpx.BaseTransport:
    """What `client` sends by: for requests that are complete, at a fifth less of the processor's time."""
    return _GuardedTransport(allow, timeout_s)


def fetch(http: httpx.Client, url: str, max_bytes: int) -> bytes:
    """What lies at `url`. Raises TooLarge beyond `max_bytes`, EgressBlocked, and httpx.HTTPError where it fails."""
    # Unpacking could make much of little; a picture is packed already.
    with http.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response:
        if not response.is_success:
            raise httpx.HTTPStatusError(
                f"it answered {response.status_code}", request=response.request, response=response
            )
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > max_bytes:
                raise TooLarge(f"it is larger than {max_bytes} bytes")
    return bytes(body)


class _GuardedTransport(httpx.BaseTransport):
    """Sends requests through connections of `_GuardedBackend`."""

    def __init__(self, allow: Networks, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._deadline = _Deadline()
        self._secure, self._plain = (self._pool(allow, plain=plain) for plain in (False, True))

    def _pool(self, allow: Networks, *, plain: bool) -> httpcore.ConnectionPool:
        return httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False),
            # As many as there are threads that send.
            max_connections=None,
            max_keepalive_connections=_MAX_KEPT_OPEN,
            keepalive_expiry=_KEPT_OPEN_S,
            network_backend=_GuardedBackend(allow, self._deadline, plain=plain),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._deadline.begin(self._timeout_s)
        while True:
            self._deadline.connected = False
            try:
                return self._send(request)
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                # A connection that was kept open may be closed at its other end just when it is used again. So the
                # request goes out anew, in the end over a new connection, whose failure counts. It may arrive twice:
                # whoever sends by this client sends again whatever was not answered.
                if self._deadline.connected:
                    raise

    def _send(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        pool = self._secure if request.url.scheme == "https" else self._plain
        with _errors_of_httpx(request):
            response = pool.handle_request(
                httpcore.Request(
                    request.method,
                    url,
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx.Response(
            response.status, headers=response.headers, stream=_Body(response, request), extensions=response.extensions
        )

    def close(self) -> None:
        self._secure.close()
        self._plain.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response, request: httpx.Request) -> None:
        self._response = response
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        with _errors_of_httpx(self._request):
            yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


@contextmanager
def _errors_of_httpx(request: httpx.Request) -> Iterator[None]:
    try:
        yield
    except httpcore.TimeoutException as error:
        raise httpx.TimeoutException(str(error) or "it did not answer in time", request=request) from error
    except httpcore.NetworkError as error:
        raise httpx.NetworkError(str(error), request=request) from error
    except (httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise httpx.RemoteProtocolError(str(error), request=request) from error


class _GuardedBackend(httpcore.NetworkBackend):
    """Connects to addresses that were checked, and only to these."""

    def __init__(self, allow: Networks, deadline: _Deadline, *, plain: bool) -> None:
        self._allow = allow
        self._deadline = deadline
        self._plain = plain
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - ours bounds the whole request
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        self._deadline.connected = True
        addresses = _resolve(host, port)
        for address in addresses:
            check_address(address, self._allow, plain=self._plain)
        failure: httpcore.NetworkError | httpcore.TimeoutException = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                left = self._deadline.left()
                stream = self._sockets.connect_tcp(str(address), port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _DeadlineStream(stream, self._deadline)
        raise failure


def _resolve(host: str, port: int) -> list[Address]:
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error
    return list(dict.fromkeys(ipaddress.ip_address(sockaddr[0]) for *_, sockaddr in answers))


class _Deadline(threading.local):
    """When the request that this thread is at must be done: a thread reads an answer before it sends another."""

    at = 0.0
    #: Whether a connection was, or was to be, made for it.
    connected = False

    def begin(self, timeout_s: float) -> None:
        self.at = time.monotonic() + timeout_s

    def left(self) -> float:
        """Seconds until then. Raises httpcore.ReadTimeout where there are none."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("it took too long")
        return left


class _DeadlineStream(httpcore.NetworkStream):
    """A connection whose requests end at their deadlines, however busy: a byte now and then keeps none alive."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline
        self._unsent = b""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        self._flush()
        return self._stream.read(max_bytes, self._deadline.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._unsent += buffer
        if len(self._unsent) > _HELD_BACK:
            self._flush()

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, b""
        if unsent:
            self._stream.write(unsent, self._deadline.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._deadline.left())
        return _DeadlineStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

"""Clients that send one request after the other over a connection that stays open."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

from farm.parts import LOOPBACK

_TIMEOUT_S = 30


class UnexpectedAnswer(Exception):
    """A server did not answer as it should, so its speed means nothing."""


class HttpClient:
    """Posts the same job over and over. Plain `http.client`: anything richer would cost more than what it measures."""

    def __init__(self, port: int, path: str, body: dict[str, Any], headers: dict[str, str]) -> None:
        self._connection = HTTPConnection(LOOPBACK, port, timeout=_TIMEOUT_S)
        self._path = path
        self._body = json.dumps(body).encode()
        self._headers = {"Content-Type": "application/json", **headers}

    def post(self, expected: int) -> bytes:
        """Send the request; the answer's body. Raises UnexpectedAnswer for another status than expected."""
        self._connection.request("POST", self._path, self._body, self._headers)
        with self._connection.getresponse() as response:
            answer = response.read()
            if response.status != expected:
                raise UnexpectedAnswer(f"{self._path} answered {response.status}: {answer[:500]!r}")
            return answer

    def close(self) -> None:
        self._connection.close()


def accepted_per_second(
    port: int, path: str, body: dict[str, Any], headers: dict[str, str], *, clients: int, measure_s: float
) -> float:
    """Requests that are answered 202 in a second, with that many clients at once."""

    def send_until(deadline: float) -> int:
        sent = 0
        with closing(HttpClient(port, path, body, headers)) as client:
            while time.perf_counter() < deadline:
                client.post(expected=202)
                sent += 1
        return sent

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        sent = sum(pool.map(send_until, [started + measure_s] * clients))
    return sent / (time.perf_counter() - started)

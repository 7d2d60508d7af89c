"""A receiver of webhooks on this machine, which verifies and answers them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from standardwebhooks import Webhook, WebhookVerificationError

#: A Job with ten pictures is some kB; whoever sends more is no farm.
MAX_BYTES = 4 * 2**20
_LOOPBACK, _ANY = "127.0.0.1", "0.0.0.0"
#: Seconds that a sender may be silent in the middle of a request.
_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One webhook. `event` is its body, parsed, where the signature is right, and None where it is not."""

    id: str
    received_at: datetime
    sender: str
    headers: Mapping[str, str]
    body: bytes
    event: Mapping[str, Any] | None

    @property
    def raw(self) -> dict[str, Any]:
        """A verified event with when it came, as one object."""
        assert self.event is not None
        moment = self.received_at.isoformat(timespec="milliseconds")
        return {"received_at": moment, "webhook_id": self.id, **self.event}


class Receiver:
    """Listens from the moment it is made; answers 200 to what a trusted secret signed, and 401 to anything else."""

    def __init__(self, take: Callable[[Message], None], host: str = _LOOPBACK, port: int = 0) -> None:
        """Listen on `port` of `host`; 0 takes any free one. Raises OSError where that cannot be done.

        `take` gets every message, on a thread of its own, before it is answered: it should not take long.
        """
        self._take = take
        self._trusted: Sequence[Webhook] = ()
        self._server = ThreadingHTTPServer((host, port), self._handler())
        #: Where it is reached from this machine.
        self.url = f"http://{_LOOPBACK if host == _ANY else host}:{self._server.server_port}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="webhooks", daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def trust(self, *secrets: str) -> None:
        """Take what is signed with one of these. Raises ValueError for what is no secret."""
        try:
            self._trusted = [Webhook(secret) for secret in secrets]
        except Exception as error:  # the library's own, or that of its base64
            raise ValueError("a secret is 'whsec_' and base64") from error

    def receive(self, sender: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Take one message; whether its signature is right."""
        event = self._verified(headers, body)
        self._take(
            Message(
                id=headers.get("webhook-id", ""),
                received_at=datetime.now(UTC),
                sender=sender,
                headers=headers,
                body=body,
                event=event,
            )
        )
        return event is not None

    def _verified(self, headers: Mapping[str, str], body: bytes) -> Mapping[str, Any] | None:
        for webhook in self._trusted:
            try:
                event = webhook.verify(body, dict(headers))
            except (WebhookVerificationError, ValueError):
                continue  # ValueError: a header or a body that cannot even be read
            if isinstance(event, dict):
                return event
        return None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            timeout = _PATIENCE_S

            def do_POST(self) -> None:
                length = self.headers.get("content-length", "")
                if not length.isdecimal() or int(length) > MAX_BYTES:
                    self._answer(413 if length.isdecimal() else 411)
                    return
                body = self.rfile.read(int(length))
                headers = {name.lower(): value for name, value in self.headers.items()}
                self._answer(200 if receiver.receive(self.client_address[0], headers, body) else 401)

            def _answer(self, status: int) -> None:
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Whoever takes the messages tells of them."""

        return Handler

"""A receiver of webhooks, as a user of the farm would write one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from standardwebhooks import Webhook, WebhookVerificationError

_POLL_S = 0.1


class Receiver:
    """Listens on a free port of this machine, verifies every signature, and logs what it verified as JSON lines."""

    def __init__(self, log: Path) -> None:
        self.refused = 0
        self._log = log
        self._lock = threading.Lock()
        self._jobs: set[str] = set()
        self._signature: Webhook | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/webhook"

    def __enter__(self) -> Self:
        self._log.write_text("")
        threading.Thread(target=self._server.serve_forever, name="webhook receiver", daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def trust(self, secret: str) -> None:
        """Take messages that are signed with `secret`; before that none is taken."""
        self._signature = Webhook(secret)

    def verified(self, job_id: str) -> bool:
        """Whether the end of this job was told, and truly by the farm."""
        with self._lock:
            return job_id in self._jobs

    def wait_for(self, job_ids: Iterable[str], timeout_s: float) -> None:
        """Return when all of these jobs were told of, or the time is over."""
        deadline = time.monotonic() + timeout_s
        while not all(self.verified(id_) for id_ in job_ids) and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def receive(self, headers: dict[str, str], body: bytes) -> bool:
        """Take one message; False where its signature is wrong."""
        try:
            if self._signature is None:
                raise WebhookVerificationError("no secret is known yet")
            event: dict[str, Any] = self._signature.verify(body, headers)
        except WebhookVerificationError:
            self.refused += 1
            return False
        entry = {
            "received_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "webhook_id": headers["webhook-id"],
            "verified": True,
            **event,
        }
        with self._lock, self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            self._jobs.add(event["data"]["id"])
        return True

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                self.send_response(204 if receiver.receive(headers, body) else 401)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """The log of verified messages is enough."""

        return Handler

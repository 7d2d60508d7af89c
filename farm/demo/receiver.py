"""The demo's receiver of webhooks: it logs what it verified, and knows of which ends it was told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from client import receiver
from client.receiver import Message

_POLL_S = 0.1


class Receiver(receiver.Receiver):
    """Listens on a free port of this machine, and logs what it verified as JSON lines."""

    def __init__(self, log: Path) -> None:
        super().__init__(self._log_event)
        self.refused = 0
        self._log = log
        self._lock = threading.Lock()
        self._jobs: set[str] = set()
        log.write_text("")

    def verified(self, job_id: str) -> bool:
        """Whether the end of this job was told, and truly by the farm."""
        with self._lock:
            return job_id in self._jobs

    def wait_for(self, job_ids: Iterable[str], timeout_s: float) -> None:
        """Return when all of these jobs were told of, or the time is over."""
        deadline = time.monotonic() + timeout_s
        while not all(self.verified(id_) for id_ in job_ids) and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def _log_event(self, message: Message) -> None:
        with self._lock:
            if message.event is None:
                self.refused += 1
                return
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"verified": True, **message.raw}, ensure_ascii=False) + "\n")
            self._jobs.add(message.event["data"]["id"])

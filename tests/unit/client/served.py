"""The front door behind a port of its own, which counts what it is asked for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask
from werkzeug.serving import make_server


class Served:
    """The farm's front door as a server on this machine. `before` is told of each request by method and path."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        #: Requests, by method and path.
        self.asked: Counter[tuple[str, str]] = Counter()
        self.before: Callable[[str, str], object] = lambda *_: None
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Served:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="front door")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def count(self, method: str, *parts: str) -> int:
        """Requests whose path has all of these in it."""
        return sum(
            times for (by, path), times in self.asked.items() if by == method and all(part in path for part in parts)
        )

    def downloads(self) -> Counter[str]:
        """How often each picture was asked for."""
        return Counter({path: n for (_, path), n in self.asked.items() if path.endswith("/download")})

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        self.asked[environ["REQUEST_METHOD"], environ["PATH_INFO"]] += 1
        self.before(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        return self._app(environ, start)

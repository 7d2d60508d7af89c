"""A proxy before a farm that counts which pictures are fetched, and takes its time over each."""

from __future__ import annotations

import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

#: Long enough that a signal finds several downloads under way, on a machine that is slow to send it as well.
DELAY_S = 0.3
_HOP = {"connection", "transfer-encoding", "content-length", "host", "content-encoding", "accept-encoding"}


class CountingProxy:
    """Forwards requests to a farm. `downloads` counts those for each picture's file, `sent` those answered in full."""

    def __init__(self, target: str) -> None:
        proxy = self
        self.downloads: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._http = httpx.Client(base_url=target, timeout=60)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path.endswith("/download"):
                    with proxy._lock:
                        proxy.downloads[self.path.split("/")[-2]] += 1
                    time.sleep(DELAY_S)
                self._forward()

            def do_POST(self) -> None:
                self._forward()

            def _forward(self) -> None:
                body = self._body()
                headers = [(name, value) for name, value in self.headers.items() if name.lower() not in _HOP]
                answer = proxy._http.request(self.command, self.path, content=body, headers=headers)
                self.send_response(answer.status_code)
                for name, value in answer.headers.items():
                    if name not in _HOP:
                        self.send_header(name, value)
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("content-length", 0)))

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A client that was killed is no error of the proxy."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> CountingProxy:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._http.close()

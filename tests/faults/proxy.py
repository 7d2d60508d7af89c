"""A TCP proxy whose present connections can be made to hang, as a firewall that forgets them does."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self


class Proxy:
    """Forwards every connection to a port of this machine."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        #: One for each generation of connections; set when its connections hang.
        self._frozen = threading.Event()
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        _hang_up(self._listener)
        # What it was about to accept is among the connections then, and does not outlive the others.
        self._thread.join()
        for one in (self._listener, *self._sockets):
            _hang_up(one)
            one.close()

    def freeze(self) -> None:
        """Forward nothing more on the connections there are, and keep them open; new ones work."""
        self._frozen.set()
        self._frozen = threading.Event()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()  # the target is down: so is whoever connects through here
                continue
            self._sockets += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=_forward, args=(source, sink, self._frozen), daemon=True).start()


def _forward(source: socket.socket, sink: socket.socket, frozen: threading.Event) -> None:
    try:
        while data := source.recv(65536):
            if frozen.is_set():
                return
            sink.sendall(data)
        # Its end is passed on, unless the connection hangs.
        if not frozen.is_set():
            sink.shutdown(socket.SHUT_WR)
    except OSError:
        if not frozen.is_set():
            _hang_up(sink)


def _hang_up(one: socket.socket) -> None:
    """End a connection for those who wait on it as well: closing its socket alone would leave them, and it, as is."""
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)

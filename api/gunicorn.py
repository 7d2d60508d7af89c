"""How gunicorn runs the front door.

    gunicorn --config python:api.gunicorn --bind 127.0.0.1:8080 'api.app:create_app()'

Environment: `WEB_CONCURRENCY` processes (2), each with `RENDERMILL_API_THREADS` threads.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from shared.settings import settings

_settings = settings()
logging.basicConfig(level=_settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")

worker_class = "gthread"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
threads = _settings.api_threads
loglevel = _settings.log_level.lower()
#: A process that does not beat for this long is stuck and replaced; waiting clients do not keep it from beating.
timeout = 60
#: How long requests may go on after a stop. Waiting clients are cut off and come back: the job is not lost.
graceful_timeout = 20
#: Longer than the idle time of the usual load balancers, so that they never write into a closing connection.
keepalive = 75
#: Each process makes its own connections, so nothing is loaded before the fork.
preload_app = False
#: Nothing here is controlled at run time, and several farms of one user would fight over the socket.
control_socket_disable = True
#: The heartbeat file must not wait for a disk.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None


def child_exit(_server: Any, worker: Any) -> None:
    """Forget the gauges of a process that ended."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]

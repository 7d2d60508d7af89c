"""Rendermill's API and its peer, a bare Flask application, behind the same HTTP server with the same configuration."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from bench.jobs import ACCOUNT
from bench.processes import Broker, running, wait_until
from farm import parts
from shared.accounts import Accounts
from shared.settings import PREFIX


@contextmanager
def rendermill_api(server: Broker, scratch: Path) -> Iterator[tuple[int, str]]:
    """Run the API on the broker; its port, and an API key."""
    port = parts.free_port()
    metrics = scratch / f"metrics-{port}"
    metrics.mkdir()
    with running(parts.api(parts.LOOPBACK, port, metrics), _environment(server.url), scratch):
        wait_until(lambda: _answers(port), "the API")
        yield port, Accounts(server.redis).create_key(ACCOUNT)


@contextmanager
def bare_flask(server: Broker, scratch: Path) -> Iterator[int]:
    """Run the peer on the peer's database of the broker; its port."""
    port = parts.free_port()
    program = parts.Program(
        name="bare-flask",
        command=(
            *(sys.executable, "-m", "gunicorn", "--config", "python:api.gunicorn"),
            *("--bind", parts.address(parts.LOOPBACK, port), "bench.flask_peer:create_app()"),
        ),
        death_signal="SIGQUIT",
    )
    with running(program, _environment(server.peer_url), scratch):
        wait_until(lambda: _answers(port), "the bare Flask application")
        yield port


def _environment(redis_url: str) -> dict[str, str]:
    return {
        f"{PREFIX}REDIS_URL": redis_url,
        f"{PREFIX}LOG_LEVEL": "WARNING",
        f"{PREFIX}EGRESS_ALLOW": "127.0.0.0/8",
        # The other half of the machine is for Valkey and the clients, so that the server is what limits the rate.
        "WEB_CONCURRENCY": str(max(1, (os.cpu_count() or 1) // 2)),
    }


def _answers(port: int) -> bool:
    connection = HTTPConnection(parts.LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status < 500
    except OSError:
        return False
    finally:
        connection.close()

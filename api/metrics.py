"""What the front door measures of itself, and all of /metrics."""

from __future__ import annotations

import os
import time

from flask import Flask, Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from api.farm_metrics import FarmCollector
from api.services import services

REQUESTS = Counter("rendermill_http_requests_total", "Requests answered.", ["route", "method", "status"])
#: From an answer out of memory to a client that waits for its picture.
REQUEST_SECONDS = Histogram(
    "rendermill_http_request_duration_seconds",
    "Time until the answer's headers were ready.",
    ["route", "method"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def measure_requests(app: Flask) -> None:
    """Count and time every request by the template of its route; paths never become labels."""

    @app.before_request
    def start() -> None:
        g.started_at = time.perf_counter()

    @app.after_request
    def count(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "(none)"
        method = request.method if request.method in _METHODS else "(other)"
        REQUESTS.labels(route, method, str(response.status_code)).inc()
        if (started_at := g.get("started_at")) is not None:
            REQUEST_SECONDS.labels(route, method).observe(time.perf_counter() - started_at)
        return response


def exposition() -> tuple[bytes, str]:
    """Everything in Prometheus's text format, and its content type."""
    registry = CollectorRegistry()
    registry.register(FarmCollector(services()))
    own = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        own = CollectorRegistry()
        MultiProcessCollector(own)  # type: ignore[no-untyped-call]
    return generate_latest(own) + generate_latest(registry), CONTENT_TYPE_LATEST

"""Whether the front door is well, and what it measured."""

from __future__ import annotations

from flask import Response
from redis.exceptions import RedisError

from api.auth import public
from api.http import json_response
from api.metrics import exposition
from api.services import services
from api.spec import Blueprint
from shared.errors import RendermillError
from shared.storage import StorageError

health = Blueprint("health", __name__, description="Liveness, readiness, metrics. No key is needed.")


@health.route("/healthz", methods=["GET"])
@public
@health.answers(200, "The process answers.", {"type": "object"})
@health.describes(summary="Liveness", security=[])
def healthz() -> Response:
    return json_response({"status": "ok"})


@health.route("/readyz", methods=["GET"])
@public
@health.answers(200, "Jobs can be accepted.", {"type": "object"})
@health.refuses(503)
@health.describes(summary="Readiness, with the reason", security=[])
def readyz() -> Response:
    reasons = _reasons()
    if reasons:
        raise RendermillError("not_ready", " ".join(reasons), reasons=reasons, headers={"Retry-After": "2"})
    return json_response({"status": "ready"})


def _reasons() -> list[str]:
    """Why no job should be sent here; empty where all is well."""
    farm = services()
    reasons = []
    try:
        wanted, alive = farm.settings.ready_workers, len(farm.workers.alive())
        if alive < wanted:
            reasons.append(f"{alive} of {wanted} render workers are alive.")
    except RedisError as error:
        reasons.append(f"Redis does not answer: {error}.")
    try:
        farm.storage.ensure_bucket()
    except StorageError as error:
        reasons.append(f"The storage does not answer: {error}.")
    return reasons


@health.route("/metrics", methods=["GET"])
@public
@health.answers(200, "Prometheus's text format.", content_type="text/plain")
@health.describes(summary="Metrics", security=[])
def metrics() -> Response:
    data, content_type = exposition()
    return Response(data, content_type=content_type)

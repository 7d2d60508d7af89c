"""The peer: the least that accepts a job. It checks nothing and knows no accounts, order, places or workers."""

from __future__ import annotations

import json
import time
from typing import Any

from flask import Flask, request
from redis import Redis

from shared.ids import new_id
from shared.settings import settings


def create_app() -> Flask:
    """A Flask application that writes the record of a job as the scheduler does, in one pipeline."""
    app = Flask("bare")
    redis = Redis.from_url(settings().redis_url)

    @app.post("/v1/jobs")
    def create_job() -> tuple[dict[str, Any], int]:
        body = request.get_json()
        job_id, now = new_id("job"), time.time()
        pipeline = redis.pipeline(transaction=False)
        pipeline.set(f"spec:{job_id}", json.dumps({"request": body}, separators=(",", ":")))
        state: dict[Any, Any] = {
            "account": "bench",
            "model": body["model"],
            "priority": "normal",
            "status": "queued",
            "stage": "waiting",
            "n": 1,
            "cost": "0.0713",
            "created": round(now * 1000),
        }
        pipeline.hset(f"job:{job_id}", mapping=state)
        pipeline.zadd("jobs:bench:queued", {job_id: now})
        pipeline.zadd(f"queue:{body['model']}", {job_id: now})
        pipeline.execute()
        return {"id": job_id, "status": "queued", "input": body}, 202

    return app

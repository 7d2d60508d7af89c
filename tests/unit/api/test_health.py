"""Whether the front door says how it is."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import cast

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from api.app import create_app
from shared.workers import Worker, Workers
from tests.fake_worker import FakeWorker
from tests.memory_storage import MemoryStorage
from tests.unit.api.conftest import Post
from tests.unit.conftest import SETTINGS


def test_a_process_that_answers_is_alive_whatever_else_is_away(
    anonymous: FlaskClient, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.away = True
    monkeypatch.setattr("fakeredis.FakeRedis.execute_command", lambda *_, **__: pytest.fail("Redis was asked"))
    assert anonymous.get("/healthz").json == {"status": "ok"}


def test_a_front_door_without_storage_or_redis_is_not_ready_and_says_why(
    anonymous: FlaskClient, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert anonymous.get("/readyz").json == {"status": "ready"}
    storage.away = True

    def away(*_: object, **__: object) -> None:
        raise RedisConnectionError("no route")

    monkeypatch.setattr("shared.workers.Workers.alive", away)
    answer = anonymous.get("/readyz")
    assert (answer.status_code, answer.json["code"]) == (503, "not_ready")
    redis_reason, storage_reason = answer.json["reasons"]
    assert "no route" in redis_reason
    assert "nobody answers" in storage_reason


def test_a_farm_is_ready_when_the_workers_it_needs_are_alive(redis: Redis, storage: MemoryStorage) -> None:
    client = create_app(replace(SETTINGS, ready_workers=1), redis, storage, lambda *_: None).test_client()
    assert client.get("/readyz").json["reasons"] == ["0 of 1 render workers are alive."]
    Workers(redis).beat(Worker(id="w", models=[], device="cpu", state="idle"))
    assert client.get("/readyz").status_code == 200


def metrics(client: FlaskClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = client.get("/metrics").text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_tell_the_state_of_the_farm(
    client: FlaskClient, submit: Post, worker: FakeWorker, redis: Redis
) -> None:
    submit()
    submit(prompt="fail: out_of_memory", webhook_url="https://example.com/")
    worker.work()
    waiting = submit(model="flux-schnell").json["id"]
    redis.hset(f"rm:job:{waiting}", "created", redis.time()[0] * 1000 - 90_000)
    Workers(redis).beat(Worker(id="w", models=[], device="cpu", state="rendering", resident=["m"]))
    found = metrics(client)

    def value(name: str, **labels: str) -> float:
        return found[name, frozenset(labels.items())]

    lightning, schnell = "ByteDance/SDXL-Lightning", "black-forest-labs/FLUX.1-schnell"
    assert value("rendermill_redis_up") == 1
    assert value("rendermill_queue_jobs", model=schnell, state="queued") == 1
    assert value("rendermill_queue_jobs", model=lightning, state="queued") == 0
    assert 85 < value("rendermill_queue_oldest_job_age_seconds", model=schnell) < 100
    assert value("rendermill_queue_oldest_job_age_seconds", model=lightning) == 0
    assert value("rendermill_jobs_finished_total", model=lightning, outcome="succeeded") == 1
    assert value("rendermill_jobs_finished_total", model=lightning, outcome="failed") == 1
    assert value("rendermill_workers", state="rendering") == 1
    assert value("rendermill_workers", state="idle") == 0
    assert value("rendermill_models_resident", model="m") == 1
    assert value("rendermill_webhook_deliveries_pending") == 1
    assert value("rendermill_leases_expired_total") == 0


def test_requests_are_counted_by_route_and_no_id_becomes_a_label(client: FlaskClient, submit: Post) -> None:
    job_id = submit().json["id"]
    client.get(f"/v1/jobs/{job_id}")
    client.get("/v1/jobs/job_secret/nothing")
    client.open("/v1/jobs", method="PROPFIND")
    text = client.get("/metrics").text
    assert 'rendermill_http_requests_total{method="GET",route="/v1/jobs/<job_id>",status="200"}' in text
    assert 'rendermill_http_request_duration_seconds_bucket{le="300.0",method="GET",route="/v1/jobs/<job_id>"}' in text
    assert "PROPFIND" not in text
    assert not re.search(r"job_[A-Za-z0-9]{24}|job_secret|alice", text)


def test_metrics_say_when_redis_is_away(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise RedisConnectionError("no route")

    monkeypatch.setattr("api.farm_metrics.FarmCollector._jobs", away)
    found = metrics(client)
    assert found["rendermill_redis_up", frozenset()] == 0
    assert not any(name == "rendermill_leases_expired_total" for name, _ in found)


def test_every_answer_has_an_id_and_safe_headers(client: FlaskClient) -> None:
    given = client.get("/v1/jobs", headers={"X-Request-Id": "trace-1"})
    assert given.headers["X-Request-Id"] == "trace-1"
    for bad in ("", "a b", "x" * 101, "a\tb"):
        made = client.get("/v1/nothing", headers={"X-Request-Id": bad})
        assert cast(str, made.headers["X-Request-Id"]).startswith("req_")
    assert given.headers["X-Content-Type-Options"] == "nosniff"
    assert given.headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in given.headers["Content-Security-Policy"]
    assert ": " not in given.text, "the JSON is compact"

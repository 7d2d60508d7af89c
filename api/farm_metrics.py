"""The state of the farm as metrics, read from Redis at each scrape: right even where every worker is dead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import cast

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from api.services import Services
from shared.redis_client import PREFIX

#: Those that wait for a retry are `delayed`: no worker could claim them.
_JOB_STATES = ("queued", "delayed", "running")
_STATES = ("starting", "idle", "rendering", "draining")


class FarmCollector(Collector):
    def __init__(self, farm: Services) -> None:
        self._farm = farm

    def collect(self) -> Iterator[Metric]:
        try:
            metrics = [*self._jobs(), self._finished(), *self._workers(), *self._deliveries(), self._leases_expired()]
        except RedisError:
            metrics = []
        yield GaugeMetricFamily("rendermill_redis_up", "Whether Redis answered this scrape.", 1 if metrics else 0)
        yield from metrics

    def _jobs(self) -> Iterator[Metric]:
        redis = self._farm.redis
        models = sorted(cast(set[str], redis.smembers(PREFIX + "models")))
        jobs = GaugeMetricFamily("rendermill_queue_jobs", "Unfinished jobs.", labels=["model", "state"])
        age = GaugeMetricFamily(
            "rendermill_queue_oldest_job_age_seconds", "Age of the oldest job that waits; 0 for none.", labels=["model"]
        )
        for model in models:
            counts = cast(list[str | None], redis.hmget(f"{PREFIX}model:{model}", *_JOB_STATES))
            for state, count in zip(_JOB_STATES, counts, strict=True):
                jobs.add_metric([model, state], float(count or 0))
            age.add_metric([model], self._farm.scheduler.oldest_wait_s(model))
        yield jobs
        yield age

    def _finished(self) -> Metric:
        finished = CounterMetricFamily(
            "rendermill_jobs_finished", "Jobs that ended, by their last status.", labels=["model", "outcome"]
        )
        for name, count in cast(dict[str, str], self._farm.redis.hgetall(PREFIX + "finished")).items():
            outcome, _, model = name.partition("/")
            finished.add_metric([model, outcome], float(count))
        return finished

    def _workers(self) -> Iterator[Metric]:
        alive = self._farm.workers.alive()
        workers = GaugeMetricFamily("rendermill_workers", "Live render workers.", labels=["state"])
        states = Counter(worker.state for worker in alive)
        for state in _STATES:
            workers.add_metric([state], states[state])
        yield workers
        resident = GaugeMetricFamily("rendermill_models_resident", "Workers that hold the model.", labels=["model"])
        for model, count in Counter(model for worker in alive for model in worker.resident).items():
            resident.add_metric([model], count)
        yield resident

    def _deliveries(self) -> Iterator[Metric]:
        redis = self._farm.redis
        yield GaugeMetricFamily(
            "rendermill_webhook_deliveries_pending", "Webhooks not delivered yet.", redis.zcard(PREFIX + "due")
        )
        yield GaugeMetricFamily(
            "rendermill_webhook_deliveries_due", "Webhooks to be sent now.", self._farm.deliveries.due()
        )
        finished = CounterMetricFamily(
            "rendermill_webhook_deliveries_finished", "Webhooks delivered or given up.", labels=["outcome"]
        )
        for outcome, count in cast(dict[str, str], redis.hgetall(PREFIX + "deliveries_finished")).items():
            finished.add_metric([outcome], float(count))
        yield finished

    def _leases_expired(self) -> Metric:
        ended = cast(str | None, self._farm.redis.get(PREFIX + "leases_expired"))
        return CounterMetricFamily(
            "rendermill_leases_expired", "Leases that ended without their worker.", float(ended or 0)
        )

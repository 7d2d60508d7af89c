"""Senders of webhooks are woken in vain, killed with a wake-up in hand, and cut off: every delivery is sent, once."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from farm import parts
from shared import redis_client
from shared.deliveries import Deliveries
from shared.redis_client import connect
from shared.settings import Settings
from tests.faults.proxy import Proxy
from tests.scheduling import MODEL, new_job, new_scheduler
from tests.sending import Receiver, Sending
from tests.servers import PATIENCE_S, wait_until
from tests.worker_farm import ACCOUNT, Hooks, WorkerFarm, worker_farm
from worker import webhooks
from worker.upkeep import Duty

SENDERS = 16


@pytest.fixture
def redis(valkey_url: str) -> Iterator[Redis]:
    with connect(valkey_url) as client:
        client.flushall()
        yield client


@contextmanager
def senders(sending: Sending, count: int = SENDERS) -> Iterator[None]:
    """Threads that send when they are woken, as those of an upkeep worker; no sweep wakes them."""
    sender = sending.sender
    duty = Duty("sending", sender.send_when_woken, 0.0, over=lambda: sender.draining)
    threads = [duty.start() for _ in range(count)]
    try:
        yield
    finally:
        sender.draining = True
        for thread in threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "a sender that is told to go goes"


def delivered(sending: Sending, ids: list[str]) -> bool:
    return all(sending.delivery(id_).status == "delivered" for id_ in ids)


def test_senders_that_are_woken_send_everything_once_and_none_is_left_to_the_sweep(redis: Redis) -> None:
    receiver = Receiver(204)
    sending = Sending(redis, receiver.transport)
    with senders(sending):
        ids = [sending.finish() for _ in range(100)]
        wait_until(lambda: delivered(sending, ids), "all are delivered")
    assert sorted(request.headers["webhook-id"] for request in receiver.requests) == sorted(
        sending.delivery(id_).id for id_ in ids
    )


def test_senders_that_are_woken_in_vain_send_nothing_and_sleep_on(redis: Redis) -> None:
    receiver = Receiver(204)
    sending = Sending(redis, receiver.transport)
    redis.rpush("rm:wake_ups", *[""] * 200)
    with senders(sending):
        wait_until(lambda: not redis.llen("rm:wake_ups"), "all wake-ups are taken")
        assert receiver.requests == []
        job_id = sending.finish()
        wait_until(lambda: delivered(sending, [job_id]), "what comes then is delivered")


def test_senders_on_half_open_connections_find_out_and_send(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_client, "_SOCKET_TIMEOUT_S", 1.0)
    monkeypatch.setattr(webhooks, "_SLEEP_S", 0.2)
    port = redis.connection_pool.connection_kwargs["port"]
    with Proxy(port) as proxy, connect(parts.valkey_url(proxy.port, "test-password")) as through_proxy:
        receiver = Receiver(204)
        sending, direct = Sending(through_proxy, receiver.transport), Sending(redis, receiver.transport)
        with senders(sending, 4):
            first = direct.finish()
            wait_until(lambda: delivered(direct, [first]), "the first is delivered")
            proxy.freeze()
            second = direct.finish()

            def swept_and_delivered() -> bool:
                # Its wake-up may have gone where nobody listens any more.
                direct.outbox.wake_senders()
                return delivered(direct, [second])

            wait_until(swept_and_delivered, "the second is delivered over new connections")
    assert len(receiver.requests) == 2


class SlowHooks(Hooks):
    """A receiver that has what it is sent, and answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.may_answer = threading.Event(), threading.Event()

    def take(self, message: str, job: str) -> None:
        super().take(message, job)
        self.reached.set()
        self.may_answer.wait(PATIENCE_S)

    def __exit__(self, *_: object) -> None:
        self.may_answer.set()
        super().__exit__()


@pytest.fixture
def farm(tmp_path: Path, redis: Redis, valkey_url: str, s3: Settings) -> Iterator[WorkerFarm]:  # noqa: ARG001
    with worker_farm(tmp_path, valkey_url, s3, tmp_path) as farm:
        yield farm


def finish(farm: WorkerFarm, url: str) -> str:
    """Let a job succeed whose webhook goes there; its id."""
    scheduler = new_scheduler(farm.redis)
    job = new_job(ACCOUNT, webhook_url=url)
    scheduler.enqueue(ACCOUNT, [job])
    (lease,) = scheduler.claim(MODEL, "worker-1", max_images=1).leases
    assert scheduler.complete(lease, images={}, result={"images": []}, render_s=None)
    return job.id


def test_upkeep_that_is_killed_or_told_to_go_loses_no_webhook(farm: WorkerFarm) -> None:
    upkeep = farm.start("upkeep")
    upkeep.send_signal(signal.SIGSTOP)
    told = finish(farm, farm.hooks.url)
    farm.end(upkeep, signal.SIGKILL)
    # One of its senders was handed the wake-up while it stood still; where not, it is lost as well.
    farm.redis.delete("rm:wake_ups")
    upkeep = farm.start("upkeep", {"WEBHOOK_TIMEOUT_S": str(PATIENCE_S)})
    wait_until(lambda: farm.hooks.received[told], "another sends it")
    with SlowHooks() as slow:
        begun = finish(farm, slow.url)
        assert slow.reached.wait(PATIENCE_S)
        upkeep.send_signal(signal.SIGTERM)
        wait_until(lambda: "Warm shutdown" in farm.log("upkeep"), "it is told to go")
        time.sleep(1)  # so that it would be gone, did it not wait for its senders
        slow.may_answer.set()
        assert farm.wait_for_end(upkeep) == 0
    deliveries, _ = Deliveries(farm.redis).page(ACCOUNT, limit=10, after=None)
    assert {delivery.job: delivery.status for delivery in deliveries} == {told: "delivered", begun: "delivered"}
    assert len(farm.hooks.received[told]) == 1
    assert "Traceback" not in farm.log("upkeep")

"""What a ticket is good for, whom a render worker wakes, and what it measures on the way."""

from __future__ import annotations

from prometheus_client import REGISTRY
from redis import Redis

from shared.accounts import Accounts
from shared.errors import JobFailure
from shared.jobs import NewJob
from shared.limits import AccountLimits
from tests.scheduling import MODEL, new_job
from tests.servers import wait_until
from tests.unit.worker.fakes import STEPS, RenderWorker

HOOK = "https://example.test/hook"


def named(prompts: str) -> list[NewJob]:
    return [new_job(prompt=prompt) for prompt in prompts]


def allow_one(redis: Redis) -> None:
    """Let the account have one job running at a time."""
    Accounts(redis).create_key("alice")
    AccountLimits(redis).set_max_running("alice", 1)


def test_a_worker_that_is_told_to_go_stays_for_no_further_batch(worker: RenderWorker) -> None:
    ids = worker.accept(*named("abcde"))
    worker.engine.at_step = lambda _: setattr(worker.renderer, "draining", True)
    worker.work()
    assert [worker.status(id_) for id_ in ids] == ["succeeded"] * 4 + ["queued"]


def test_an_account_that_may_run_one_job_is_served_job_after_job(worker: RenderWorker, redis: Redis) -> None:
    allow_one(redis)
    ids = worker.accept(*named("ab"))
    worker.work()
    assert [worker.status(id_) for id_ in ids] == ["succeeded", "succeeded"]
    assert worker.engine.batches == [["a"], ["b"]]
    # Nobody could have claimed the second before the first had ended.
    assert worker.sent == [f"render.{MODEL}"]


def test_a_job_that_fails_lets_its_accounts_next_one_in_and_its_webhook_out_at_once(
    worker: RenderWorker, redis: Redis
) -> None:
    allow_one(redis)
    worker.engine.poison["a"] = JobFailure("invalid_input", "no")
    ids = worker.accept(new_job(prompt="a", webhook_url=HOOK), new_job(prompt="b"))
    worker.work()
    assert [worker.status(id_) for id_ in ids] == ["failed", "queued"]
    assert (worker.sent, worker.wake_ups) == ([f"render.{MODEL}"], 1)


def test_a_job_that_is_called_off_lets_its_accounts_next_one_in_and_its_webhook_out_at_once(
    worker: RenderWorker, redis: Redis
) -> None:
    allow_one(redis)
    ids = worker.accept(new_job(prompt="a", webhook_url=HOOK), new_job(prompt="b"))

    def call_off(_: int) -> None:
        worker.scheduler.cancel(ids[0], "alice")
        worker.keeper.renew()

    worker.engine.at_step = call_off
    worker.work()
    assert [worker.status(id_) for id_ in ids] == ["canceled", "queued"]
    wait_until(lambda: len(worker.sent) == 1, "the keeper has a thread of its own for tickets")
    assert (worker.sent, worker.wake_ups) == ([f"render.{MODEL}"], 1)


def test_a_job_called_off_while_it_is_stored_sends_its_webhook_at_once(worker: RenderWorker) -> None:
    (id_,) = worker.accept(new_job(webhook_url=HOOK))
    worker.engine.at_step = lambda _: worker.scheduler.cancel(id_, "alice")
    worker.work()
    assert worker.status(id_) == "canceled"
    assert worker.wake_ups == 1


def test_a_job_that_is_given_back_is_offered_to_others_at_once(worker: RenderWorker) -> None:
    (id_,) = worker.accept(new_job())
    worker.engine.at_step = lambda _: worker.renderer.drain()
    worker.work()
    assert worker.status(id_) == "queued"
    assert worker.sent == [f"render.{MODEL}"]


def test_no_ticket_is_published_for_jobs_that_nobody_can_claim_yet(worker: RenderWorker, redis: Redis) -> None:
    allow_one(redis)
    worker.accept(*named("ab"))
    sent_while_rendering: list[list[str]] = []
    worker.engine.at_step = lambda _: sent_while_rendering.append(list(worker.sent))
    worker.work()
    assert sent_while_rendering[:STEPS] == [[]] * STEPS, "the second one could be claimed when the first had ended"


def idle_gaps() -> float:
    gaps: float = REGISTRY.get_sample_value("rendermill_device_idle_seconds_count", {"model": MODEL}) or 0.0
    return gaps


def test_the_device_counts_as_idle_between_batches_only_while_work_waits(worker: RenderWorker) -> None:
    before = idle_gaps()
    worker.accept(*named("abcde"))
    worker.work()
    worker.work()
    assert idle_gaps() == before + 1
    worker.accept(*named("f"))
    worker.work()
    assert idle_gaps() == before + 1, "nothing waited behind the batch before"


def test_how_late_a_job_came_is_measured_where_its_owner_was_told_a_time(worker: RenderWorker) -> None:
    def told_late() -> float:
        name, labels = "rendermill_eta_error_seconds_bucket", {"model": MODEL, "le": "-3.0"}
        return REGISTRY.get_sample_value(name, labels) or 0.0

    worker.redis.hset(f"rm:model:{MODEL}", "rate", 1)
    before = told_late()
    # Both are told ten seconds and come at once; nobody asked for the third.
    ids = worker.accept(*(new_job(image_cost=10.0, prompt=prompt) for prompt in "abc"))
    for id_ in ids[:2]:
        assert worker.scheduler.position(id_, 1)
    worker.work()
    assert told_late() == before + 2

"""Following jobs: the stream, the channel that wakes its readers, and what happens when the channel fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from shared.answers import Progress
from shared.events import Events
from shared.jobs import JobStatus, Stage
from shared.scheduler import Scheduler
from tests.scheduling import claim_one, complete, enqueue, new_scheduler
from tests.servers import PATIENCE_S, wait_until


@pytest.fixture
def scheduler(redis: Redis) -> Scheduler:
    return new_scheduler(redis)


@pytest.fixture
def events(redis: Redis) -> Iterator[Events]:
    events = Events(redis)
    yield events
    events.close()


def subscribers(redis: Redis) -> int:
    return dict(redis.pubsub_numsub("rm:wake"))["rm:wake"]


def test_every_change_is_an_event_in_its_order(scheduler: Scheduler, events: Events) -> None:
    job = enqueue(scheduler)
    lease = claim_one(scheduler)
    for progress in (0.25, 0.5, 0.5):
        scheduler.renew({lease: Progress(Stage.RENDERING, progress)})
    before = events.since(job.id, "0")
    complete(scheduler, lease)
    found = [*before, *events.since(job.id, before[-1].id)]
    assert [(event.status, event.stage, event.progress) for event in found] == [
        (JobStatus.RUNNING, Stage.LOADING, 0.0),
        (JobStatus.RUNNING, Stage.RENDERING, 0.25),
        (JobStatus.RUNNING, Stage.RENDERING, 0.5),
        (JobStatus.SUCCEEDED, Stage.DONE, 1.0),
    ]
    assert [event.id for event in found] == sorted({event.id for event in found})
    assert events.since(job.id, found[1].id) == found[3:], "of a job that has ended, a reader is told the end alone"


def test_a_reader_goes_on_where_it_stopped(scheduler: Scheduler, events: Events) -> None:
    job = enqueue(scheduler)
    lease = claim_one(scheduler)
    for progress in (0.25, 0.5):
        scheduler.renew({lease: Progress(Stage.RENDERING, progress)})
    found = events.since(job.id, "0")
    assert events.since(job.id, found[0].id) == found[1:]


@pytest.mark.parametrize("claimed", [False, True], ids=["queued", "running"])
def test_a_finished_job_leaves_no_stream(redis: Redis, scheduler: Scheduler, events: Events, claimed: bool) -> None:
    job = enqueue(scheduler)
    if claimed:
        scheduler.fail(claim_one(scheduler), "render_failed", "no", retriable=False)
    else:
        scheduler.cancel(job.id, "alice")
    [end] = events.since(job.id, "0")
    assert (end.status, end.stage) == (JobStatus.FAILED if claimed else JobStatus.CANCELED, Stage.DONE)
    assert events.since(job.id, end.id) == [], "who has seen the end need not come back"
    assert not redis.exists(f"rm:events:{job.id}")


@pytest.mark.parametrize("last_id", ["", "-", "$", "+", "x-1", "1-", "-1", "٣", "9" * 30, "1-1-1", "(0"])
def test_what_is_no_event_id_is_refused(events: Events, last_id: str) -> None:
    with pytest.raises(ValueError, match="no event id"):
        events.since("job_1", last_id)


def test_a_stream_does_not_grow_with_a_jobs_reports(redis: Redis, scheduler: Scheduler) -> None:
    job = enqueue(scheduler)
    lease = claim_one(scheduler)
    for step in range(300):
        scheduler.renew({lease: Progress(Stage.RENDERING, step / 300)})
    assert redis.xlen(f"rm:events:{job.id}") == 256


def test_a_follower_is_woken_long_before_it_would_look_for_itself(
    redis: Redis, scheduler: Scheduler, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.events.POLL_S", 600.0)
    job = enqueue(scheduler)
    with ThreadPoolExecutor() as pool:
        followed = pool.submit(lambda: [event for event in events.follow(job.id, "0", 600) if event])
        waited = pool.submit(events.wait_until_finished, job.id, 600)
        wait_until(lambda: subscribers(redis), "the listener has subscribed")
        complete(scheduler, claim_one(scheduler))
        assert followed.result(PATIENCE_S)[-1].status is JobStatus.SUCCEEDED
        assert waited.result(PATIENCE_S)
        closing = pool.submit(events.close)
        wait_until(lambda: redis.publish("rm:wake", "nobody") >= 0 and closing.done(), "the listener has ended")


def test_a_lost_message_costs_a_poll_and_nothing_else(
    redis: Redis, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.events.POLL_S", 0.1)
    deaf = Events(redis)
    monkeypatch.setattr(deaf, "_listen", threading.Event().wait)
    job = enqueue(scheduler)
    with ThreadPoolExecutor() as pool:
        followed = pool.submit(lambda: [event for event in deaf.follow(job.id, "0", 60) if event])
        waited = pool.submit(deaf.wait_until_finished, job.id, 60)
        complete(scheduler, claim_one(scheduler))
        assert followed.result(PATIENCE_S)[-1].status is JobStatus.SUCCEEDED
        assert waited.result(PATIENCE_S)


def test_the_listener_comes_back_when_its_connection_is_cut(valkey: Redis) -> None:
    events, scheduler = Events(valkey), new_scheduler(valkey)
    job = enqueue(scheduler)
    with ThreadPoolExecutor() as pool:
        waited = pool.submit(events.wait_until_finished, job.id, 60)
        wait_until(lambda: subscribers(valkey), "the listener has subscribed")
        valkey.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        wait_until(lambda: subscribers(valkey), "the listener has subscribed again")
        complete(scheduler, claim_one(scheduler))
        assert waited.result(PATIENCE_S)
    events.close()


def test_following_a_finished_or_unknown_job_ends_at_once(scheduler: Scheduler, events: Events) -> None:
    job = enqueue(scheduler)
    complete(scheduler, claim_one(scheduler))
    last = events.since(job.id, "0")[-1].id
    began = time.monotonic()
    assert [event.id for event in events.follow(job.id, "0", 60) if event][-1] == last
    assert list(events.follow(job.id, last, 60)) == [], "a client that had it all before its connection broke"
    assert list(events.follow("job_never_was", "0", 60)) == []
    assert events.wait_until_finished(job.id, 60)
    assert not events.wait_until_finished("job_never_was", 60)
    assert time.monotonic() - began < 30


def test_following_ends_when_its_time_is_up(
    scheduler: Scheduler, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.events.POLL_S", 0.05)
    job = enqueue(scheduler)
    assert set(events.follow(job.id, "0", 0.2)) == {None}, "a sign of life while nothing happens"
    assert not events.wait_until_finished(job.id, 0.05)

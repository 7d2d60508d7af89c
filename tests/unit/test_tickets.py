"""Tickets are few, however much waits; counted where they lie, on the broker's own list."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import Celery
from redis import Redis

from shared.tickets import BATCH_QUEUE, CELERY_SETTINGS, RENDER_TASK, Tickets, render_queue

MODEL = "black-forest-labs/FLUX.1-schnell"


@pytest.fixture(scope="module")
def app(valkey_url: str) -> Iterator[Celery]:
    with Celery("test", broker=valkey_url, set_as_current=False) as app:
        app.conf.update(CELERY_SETTINGS)
        yield app


@pytest.fixture
def tickets(valkey: Redis, app: Celery) -> Tickets:
    return Tickets(valkey, lambda task, queue: app.send_task(task, queue=queue, ignore_result=True))


def test_tickets_stay_bounded_whatever_the_number_of_enqueues(valkey: Redis, tickets: Tickets) -> None:
    for queued in range(1, 200):
        tickets.wake_renderers(MODEL, queued=queued, workers=3)
        assert valkey.llen(render_queue(MODEL)) == min(queued, 4), "one a worker, and one to spare"
    assert tickets.wake_renderers(MODEL, queued=10**6, workers=10**6) == 60
    assert valkey.llen(render_queue(MODEL)) == 64


def test_a_worker_that_leaves_work_behind_passes_on_a_few_tickets_of_those_missing(
    valkey: Redis, tickets: Tickets
) -> None:
    def pass_on(queued: int, lying: int) -> int:
        return tickets.pass_on(MODEL, queued=queued, workers=64, lying=lying)

    assert [pass_on(1, 0), pass_on(1000, 0), pass_on(1000, 63), pass_on(1000, 64)] == [1, 2, 1, 0]
    assert valkey.llen(render_queue(MODEL)) == 4


def test_as_many_tickets_as_there_may_be_suffice_for_any_number_of_workers(tickets: Tickets) -> None:
    for queued, lying in ((1, 0), (1, 1), (63, 62), (1000, 63), (1000, 64), (0, 0)):
        published = tickets.pass_on(MODEL, queued=queued, workers=10**6, lying=lying)
        assert tickets.suffice(queued=queued, lying=lying) == (published == 0)


def test_nothing_is_published_where_nothing_waits(valkey: Redis, tickets: Tickets) -> None:
    assert tickets.wake_renderers(MODEL, queued=0, workers=5) == 0
    assert tickets.wake_batches(due=0) == 0
    assert valkey.keys("*") == []


def test_a_ticket_that_was_taken_or_lost_is_replaced(valkey: Redis, tickets: Tickets) -> None:
    tickets.wake_renderers(MODEL, queued=5, workers=1)
    valkey.delete(render_queue(MODEL))
    assert tickets.wake_renderers(MODEL, queued=5, workers=1) == 2
    assert tickets.wake_renderers(MODEL, queued=5, workers=1) == 0


def test_a_ticket_says_only_which_task_in_which_queue(valkey: Redis, tickets: Tickets) -> None:
    tickets.wake_renderers(MODEL, queued=1, workers=1)
    tickets.wake_batches(due=1000)
    message = valkey.lindex(render_queue(MODEL), 0) or ""
    assert f'"task": "{RENDER_TASK}"' in message
    assert "job" not in message
    assert valkey.llen(BATCH_QUEUE) == 64

"""Batches that have no more lines to read: what happens in the moment in which they are put to rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from tests.fake_worker import FakeWorker
from tests.unit.api.batch_lines import Create, line
from worker.batching import BatchWorker


def meanwhile(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Let something happen after a worker has read that a batch is to rest, and before it rests."""

    def left_s(_: object) -> float:
        happens()
        return 1.0

    monkeypatch.setattr("worker.batching.left_s", left_s)


def test_a_batch_whose_last_job_ends_just_before_it_rests_is_finalized_at_once(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile(monkeypatch, worker.work)
    batch = create([line("fox")])
    batching.work_due()
    assert client.get(f"/v1/batches/{batch['id']}").json["status"] == "completed"


def test_a_batch_that_is_cancelled_just_before_it_rests_is_called_off_at_once(
    client: FlaskClient, batching: BatchWorker, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = create([line("fox")])
    meanwhile(monkeypatch, lambda: client.post(f"/v1/batches/{batch['id']}/cancel"))
    batching.work_due()
    assert client.get(f"/v1/batches/{batch['id']}").json["status"] == "cancelled"

"""Whatever a file is made of, each line of it that is not blank becomes one job or one entry of the error file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from shared.batches import job_id
from tests.unit.api.batch_lines import IMAGES, Create, content, job_line, line
from worker.batching import BatchWorker

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["custom_id", "method", "url", "body", "prompt", "model", "size", "n", "seed", "user", "image"])
VALUES = st.one_of(st.sampled_from(["a", "b", "POST", IMAGES, "/v1/jobs", {"prompt": "x"}]), JSON)
NEAR = st.builds(lambda good, wrong: {**good, **wrong}, st.just(line("a")), st.dictionaries(NAMES, VALUES, max_size=2))
BODIES = st.builds(
    lambda body: {**line("b"), "body": {**line("b")["body"], **body}}, st.dictionaries(NAMES, VALUES, max_size=3)
)
OBJECTS = st.one_of(st.sampled_from([line("a"), line("c"), job_line("d")]), NEAR, BODIES, JSON)
LINES = st.one_of(OBJECTS.map(lambda found: json.dumps(found).encode()), st.binary(max_size=40), st.just(b" \t"))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A line with a few bytes cut out of it or put into it."""
    data = draw(LINES)
    at = draw(st.integers(0, len(data)))
    return data[:at] + draw(st.binary(max_size=3)) + data[at + draw(st.integers(0, 3)) :]


FILES = st.lists(st.one_of(LINES, damaged()), max_size=12).flatmap(
    lambda lines: st.sampled_from([b"\n", b"\r\n"]).map(lambda end: end.join(lines))
)


@pytest.fixture
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of three lines, and pieces that cut lines anywhere."""
    monkeypatch.setattr("worker.judging._CHUNK_LINES", 3)
    monkeypatch.setattr("intake.batch_lines._PIECE_BYTES", 50)


@pytest.mark.usefixtures("_small_steps")
@given(data=st.one_of(FILES, FILES.map(lambda data: b"\xef\xbb\xbf" + data), st.binary(max_size=200)))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_line_is_answered_for_once(
    client: FlaskClient, batching: BatchWorker, create: Create, redis: Redis, data: bytes
) -> None:
    numbers = [number for number, text in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1) if text.strip()]
    batch = create(data)
    batching.work_due()
    jobs = [number for number in numbers if redis.exists(f"rm:job:{job_id(batch['id'], number)}")]
    assert jobs_of(client, batch) == len(jobs)
    client.post(f"/v1/batches/{batch['id']}/cancel")
    batching.work_due()
    done = client.get(f"/v1/batches/{batch['id']}").json
    if not numbers:
        assert (done["status"], done["errors"]["data"][0]["code"]) == ("failed", "empty_file")
        return
    assert done["status"] == ("cancelled" if jobs else "failed")
    assert done["request_counts"] == {"total": len(numbers), "completed": 0, "failed": len(numbers)}
    entries = content(client, done["error_file_id"])
    assert [entry["error"]["line"] for entry in entries] == numbers
    refused = [entry for entry in entries if entry["error"]["code"] != "batch_cancelled"]
    assert len(refused) == len(numbers) - len(jobs)
    assert "internal" not in {entry["error"]["code"] for entry in refused}, refused
    assert client.get(f"/v1/batches/{batch['id']}/manifest", buffered=True).data.count(b",refused,") == len(refused)


def jobs_of(client: FlaskClient, batch: dict[str, Any]) -> int:
    return len(client.get(f"/v1/jobs?batch={batch['id']}&limit=100").json["data"])

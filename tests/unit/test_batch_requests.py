"""The quick way of judging a line comes to what judging it in full comes to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from fakeredis import FakeRedis, FakeServer
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from intake.batch_lines import LineRefused
from intake.batch_requests import BatchRequests
from intake.means import Judging, build_means
from shared.jobs import NewJob, Priority
from shared.requests import MAX_SEED
from shared.settings import Settings
from tests.memory_storage import MemoryStorage

MEANS = build_means(Settings(), cast(Redis, FakeRedis(server=FakeServer(), decode_responses=True)), MemoryStorage())
TEXTS = st.sampled_from(["a fox", "", None, 5, "nul \0", "half \ud800", "x" * 32_001, "ä" * 100, [], True])
SEEDS = st.sampled_from([None, 0, 1, -1, 1.0, True, "1", MAX_SEED, MAX_SEED - 1, MAX_SEED - 11, MAX_SEED + 1])
NATIVE = {
    "model": st.sampled_from(["sdxl-lightning", "flux-schnell", "stabilityai/stable-diffusion-xl-base-1.0", "no", 3]),
    "prompt": TEXTS,
    "negative_prompt": TEXTS,
    "seed": SEEDS,
    "name": TEXTS,
    "metadata": st.sampled_from([None, {}, {"a": "b"}, {"a": 1}, {"a": "\0"}, []]),
    "width": st.sampled_from([1024, 1024.0, True, "1024", 1023, None]),
    "num_steps": st.sampled_from([4, 1, 1000, None]),
    "guidance_scale": st.sampled_from([0, 0.0, 1, 2.5, None]),
    "n": st.sampled_from([1, 1.0, True, 2, 10, 11, None]),
    "priority": st.sampled_from(["high", "urgent", None]),
    "deadline_s": st.sampled_from([5, 1e9, None]),
    "colour": st.just("red"),
}
OPENAI = {
    "model": st.sampled_from(["dall-e-2", "gpt-image-1", "no", None]),
    "prompt": TEXTS,
    "negative_prompt": TEXTS,
    "seed": SEEDS,
    "user": TEXTS,
    "size": st.sampled_from(["1024x1024", "auto", "8x8", None]),
    "n": st.sampled_from([1, True, 10, None]),
    "response_format": st.sampled_from(["url", "b64_json", "x"]),
    "responseFormat": st.sampled_from(["url", "b64_json", "x"]),
    "background": st.sampled_from(["opaque", "transparent"]),
    "stream": st.booleans(),
}


def requests(endpoint: str) -> BatchRequests:
    return BatchRequests(MEANS, account="alice", endpoint=endpoint, priority=Priority.LOW, can_link=False)


def judged(judge: Any, body: dict[str, Any]) -> NewJob | tuple[str, str, str | None]:
    """The job, without a seed that was drawn; or why there is none."""
    try:
        job: NewJob = judge(body, "job_x", 100.0)
    except LineRefused as refused:
        return refused.code, refused.message, refused.param
    return job if body.get("seed") is not None else replace(job, request=replace(job.request, seed=0))


@pytest.mark.parametrize(("endpoint", "fields"), [("/v1/jobs", NATIVE), ("/v1/images/generations", OPENAI)])
def test_the_quick_way_and_the_full_way_agree(endpoint: str, fields: dict[str, Any]) -> None:
    quick = requests(endpoint)
    # Mostly right, so that there are templates to go by.
    likely = {"model": st.just("sdxl-lightning" if endpoint == "/v1/jobs" else "dall-e-2"), "prompt": st.just("a cat")}
    bodies = st.one_of(
        st.fixed_dictionaries({}, optional=fields),
        st.fixed_dictionaries(likely, optional={name: fields[name] for name in list(fields)[2:]}),
    )

    @given(body=bodies)
    @settings(max_examples=500, deadline=None)
    def agree(body: dict[str, Any]) -> None:
        with Judging(MEANS):
            assert judged(quick.job, dict(body)) == judged(quick.judged_in_full, dict(body))

    agree()


@pytest.mark.parametrize(
    ("endpoint", "body", "brings"),
    [
        ("/v1/jobs", {"input_image": "x"}, True),
        ("/v1/jobs", {"mask_image": "x", "input_image": None}, True),
        ("/v1/jobs", {"input_image": None, "mask_image": None}, False),
        ("/v1/jobs", {"prompt": "a fox"}, False),
        ("/v1/images/generations", {"image": ["x"]}, True),
        ("/v1/images/generations", {"input_image": "x"}, False),
        ("/v1/images/edits", {"images": [{"file_id": "x"}]}, True),
    ],
)
def test_a_line_with_pictures_is_known_before_it_is_judged(endpoint: str, body: dict[str, Any], brings: bool) -> None:
    assert requests(endpoint).brings_pictures(body) is brings


def test_lines_that_differ_in_their_free_fields_are_judged_in_full_once(monkeypatch: pytest.MonkeyPatch) -> None:
    quick, in_full = requests("/v1/jobs"), []
    judge = quick.judged_in_full
    monkeypatch.setattr(quick, "judged_in_full", lambda *line: in_full.append(line) or judge(*line))
    with Judging(MEANS):
        for seed in range(100):
            job = quick.job({"model": "sdxl-lightning", "prompt": f"fox {seed}", "seed": seed}, f"job_{seed}", 50.0)
            assert (job.id, job.request.prompt, job.request.seed) == (f"job_{seed}", f"fox {seed}", seed)
    assert len(in_full) == 1

"""Both clients against the farm's own front door: what they give, and that they are the same."""

from __future__ import annotations

import asyncio
import inspect
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from client import (
    AsyncClient,
    Batch,
    Client,
    Conflict,
    Invalid,
    Job,
    JobFailed,
    LineError,
    NotFound,
    NotLoaded,
    Unauthenticated,
    WaitTimeout,
    whereabouts,
)

MODEL = "sdxl-lightning"
SMALL = {"model": MODEL, "width": 256, "height": 256}
pytestmark = pytest.mark.usefixtures("serving")


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    def methods(kind: type) -> dict[str, Any]:
        named = inspect.getmembers(kind, inspect.isfunction)
        return {name: inspect.signature(one) for name, one in named if not name.startswith("_")}

    one, other = methods(Client), methods(AsyncClient)
    other["close"] = other.pop("aclose")
    assert {name: list(one[name].parameters.values()) for name in one} == {
        name: list(other[name].parameters.values()) for name in other
    }
    for name, signature in one.items():
        assert signature.return_annotation == other[name].return_annotation.removeprefix("Async"), name


def test_a_prompt_becomes_pictures_that_are_saved(farm: Client, tmp_path: Path) -> None:
    images = farm.generate("a lighthouse", n=2, seed=7, **SMALL)
    assert [image.seed for image in images] == [7, 8]
    files = images.save(tmp_path / "pictures")
    assert sorted(tmp_path.joinpath("pictures").iterdir()) == sorted(files)
    with Pillow.open(files[0]) as picture:
        assert picture.size == (256, 256)
    assert images[1].save(tmp_path / "two.jpeg").read_bytes() == images[1].content


def test_an_image_fetches_its_file_when_it_is_shown(farm: Client) -> None:
    job = farm.submit({"prompt": "a cat", **SMALL}, wait_s=20)
    shown = job._repr_html_()
    assert job.id in shown
    assert "data:image/jpeg;base64," in shown
    assert Pillow.open(io.BytesIO(job.images[0].content)).size == (256, 256)


def test_a_job_without_pictures_is_an_error_with_the_job(farm: Client) -> None:
    with pytest.raises(JobFailed, match="failed: it went wrong") as caught:
        farm.generate("fail: render_failed", **SMALL)
    assert caught.value.job.error == {"code": "render_failed", "message": "it went wrong"}


def test_a_job_is_followed_to_its_end_and_from_any_event_on(farm: Client) -> None:
    job = farm.submit({"prompt": "a cat", **SMALL})
    events = list(farm.events(job))
    assert events[-1].name == "job.succeeded"
    assert isinstance(events[-1].data, Job)
    assert events[-1].data.images
    assert not any(event.last for event in events[:-1])
    assert not list(farm.events(job, last_event_id=events[-1].id))


def test_progress_is_told_while_one_waits(farm: Client) -> None:
    seen: list[str] = []
    job = farm.wait(farm.submit({"prompt": "a cat", **SMALL}), progress=lambda job: seen.append(job.status))
    assert (job.succeeded, seen[-1]) == (True, "succeeded")
    with pytest.raises(WaitTimeout):
        farm.wait(farm.submit({"prompt": "hold", **SMALL}), timeout_s=0.2)


def test_a_batch_of_prompts_gives_its_jobs_as_they_end(farm: Client) -> None:
    lines: list[Any] = ["a fox", {"custom_id": "owl", "prompt": "an owl", "seed": 4}, {"prompt": "fail: render_failed"}]
    batch = farm.batch([*lines, {"custom_id": "bad", "prompt": "x", "n": 99}], **SMALL)
    assert (batch.priority, batch.endpoint) == ("low", "/v1/jobs")
    jobs = {job.custom_id: job for job in farm.results(batch)}
    assert {name: job.status for name, job in jobs.items()} == {
        "line-00001": "succeeded",
        "owl": "succeeded",
        "line-00003": "failed",
    }
    assert jobs["owl"].seed == 4
    assert len(farm.fetch(jobs["owl"].images)[0].content) == jobs["owl"].images[0].size
    done = farm.wait(batch)
    assert (done.status, done.total, done.completed, done.failed) == ("completed", 4, 2, 2)
    assert "2" in done._repr_html_()
    assert [(bad.custom_id, bad.line, bad.code) for bad in farm.failures(done)] == [
        ("line-00003", 3, "render_failed"),
        ("bad", 4, "invalid_value"),
    ]


def test_a_batch_is_followed_listed_and_called_off(farm: Client) -> None:
    batch = farm.batch(["hold"], metadata={"for": "me"}, **SMALL)
    farm.cancel_batch(batch.id)
    last = list(farm.events(batch))[-1]
    assert isinstance(last.data, Batch)
    assert (last.name, last.data.metadata) == ("batch.cancelled", {"for": "me"})
    assert [found.id for found in farm.batches(limit=1)] == [batch.id]
    with pytest.raises(Conflict):
        farm.cancel_batch(batch.id)


def test_a_file_that_was_uploaded_becomes_a_batch_once_under_one_key(farm: Client, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    body = '{"model": "sdxl-lightning", "prompt": "x", "width": 256, "height": 256}'
    path.write_text(f'{{"custom_id": "a", "method": "POST", "url": "/v1/jobs", "body": {body}}}\n')
    file = farm.upload(path)
    assert (file.filename, file.bytes) == ("lines.jsonl", path.stat().st_size)
    first, again = (farm.create_batch(file, idempotency_key="once") for _ in range(2))
    assert first.id == again.id
    assert farm.file_content(file.id) == path.read_bytes()
    assert [found.id for found in farm.files(purpose="batch", limit=3)] == [file.id]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "no lines"),
        (["a", {"url": "/v1/images/edits", "body": {}}], "line 2 is for /v1/images/edits, others for /v1/jobs"),
        (["a"] * 50_001, "at most 50,000 lines"),
    ],
)
def test_what_cannot_be_one_batch_is_refused_before_it_is_sent(farm: Client, lines: list[Any], words: str) -> None:
    with pytest.raises(LineError, match=words):
        farm.batch(lines, **SMALL)


def test_models_and_the_account_are_typed(farm: Client) -> None:
    farm.generate("a lighthouse", **SMALL)
    assert MODEL in farm.model(MODEL).aliases
    assert {model.family for model in farm.models()} >= {"sdxl", "flux"}
    account = farm.account(days=2)
    assert (account.id, account.balance, account.queued, account.limits.rate) == ("alice", None, 0, None)
    assert account.usage[0].succeeded == 1
    for shown in (account._repr_html_(), farm.model(MODEL)._repr_html_()):
        assert "<table>" in shown


def test_errors_are_told_apart_by_their_kind(farm: Client, key: str) -> None:
    with pytest.raises(NotFound):
        farm.get("job_none")
    with pytest.raises(Invalid) as caught:
        farm.submit({"model": "none"})
    assert any(words.startswith("prompt:") for words in caught.value.errors)
    farm._http.headers["authorization"] = f"Bearer {key}x"
    with pytest.raises(Unauthenticated):
        farm.models()


def test_the_asynchronous_client_does_the_same(async_farm: AsyncClient, tmp_path: Path) -> None:
    async def collected(items: AsyncIterator[Any]) -> list[Any]:
        return [item async for item in items]

    async def main() -> None:
        async with async_farm as farm:
            images = await farm.generate("a lighthouse", n=2, seed=7, **SMALL)
            assert len(images.save(tmp_path)) == 2
            job = await farm.get(images[0].job_id or "")
            with pytest.raises(NotLoaded, match="is not fetched"):
                _ = job.images[0].content
            assert (await farm.fetch(job.images))[1].content == images[1].content
            assert (await collected(farm.events(job)))[-1].name == "job.succeeded"
            batch = await farm.batch(["a fox", "fail: render_failed"], **SMALL)
            jobs = await collected(farm.results(batch))
            assert sorted(job.status for job in jobs) == ["failed", "succeeded"]
            assert (await farm.wait(batch)).completed == 1
            assert len(await farm.failures(batch)) == 1
            assert len(await collected(farm.jobs(batch=batch.id))) == 2

    asyncio.run(main())


def test_the_farm_and_the_key_are_found_where_none_are_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (whereabouts.URL_VARIABLE, whereabouts.KEY_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    data_dir = tmp_path / ".rendermill"
    data_dir.mkdir()
    (data_dir / "farm.json").write_text('{"url": "http://127.0.0.1:4711"}')
    (data_dir / "api-key").write_text("rm_here\n")
    with Client() as farm:
        assert (str(farm._http.base_url), farm._http.headers["authorization"]) == (
            "http://127.0.0.1:4711",
            "Bearer rm_here",
        )
    monkeypatch.setenv(whereabouts.URL_VARIABLE, "http://elsewhere/v1")
    monkeypatch.setenv(whereabouts.KEY_VARIABLE, "rm_there")
    with Client() as farm:
        assert (str(farm._http.base_url), farm._http.headers["authorization"]) == (
            "http://elsewhere",
            "Bearer rm_there",
        )

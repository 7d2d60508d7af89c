"""Every method of a client as a script: see client.steps."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from client import batch_files
from client.answers import Answer, answer_of, items, parsed, understood
from client.batches import Batch, File, LineFailure
from client.catalog import Account, Model
from client.errors import ApiError, ClientError, JobFailed, Unreachable, WaitTimeout
from client.events import Event, following
from client.images import Image, Images, Load
from client.jobs import Job
from client.retry import Patience
from client.steps import Call, Emit, Pause, Script, Together

#: The first look at what one waits for comes this soon, in seconds; later ones further apart, up to the second number.
FIRST_POLL_S = 0.1
LAST_POLL_S = 2.0
#: How long calls that may be repeated are, in seconds: a farm is restarted within this time, unless something is wrong.
PATIENCE_S = 60.0
#: The longest that the farm allows: who hands in much wants all of it.
WINDOW = "14d"
#: Most of a list that the farm gives at once.
PAGE = 100

Make = Callable[[Mapping[str, Any]], object]
#: Told why a call is tried again, and None once one is answered after that.
OnRetry = Callable[[ClientError | None], object]


class Scripts:
    """The scripts of one client."""

    def __init__(self, patience_s: float, load: Load | None, on_retry: OnRetry | None = None) -> None:
        """Calls that may be repeated are, for `patience_s` seconds; `load` is how its images get their files."""
        self._on_retry = on_retry or (lambda _: None)
        self._retrying = False
        self._patience_s = patience_s
        self._job = partial(understood, partial(Job.from_json, load=load))
        self._image = partial(understood, partial(Image.from_json, load=load))
        self._answered = False

    def call(self, call: Call) -> Script[Any]:
        """A call and its answer, tried again where that may help. A farm that never answered is not waited for."""
        repeatable = call.repeatable or call.method == "GET" or _has_key(call.headers)
        patience = Patience(self._patience_s if repeatable else 0.0)
        while True:
            try:
                response = yield call
            except (ApiError, Unreachable) as error:
                self._answered = self._answered or isinstance(error, ApiError)
                wait_s = patience.wait_s(error) if self._answered else None
                if wait_s is None:
                    raise
                self._retrying = True
                self._on_retry(error)
                yield Pause(wait_s)
            else:
                self._answered = True
                if self._retrying:
                    self._retrying = False
                    self._on_retry(None)
                return response

    def _ask(self, call: Call) -> Script[Answer]:
        return answer_of((yield from self.call(call)))

    def _get(self, path: str, **params: Any) -> Script[Answer]:
        return (yield from self._ask(Call(method="GET", path=path, params=params)))

    # Jobs

    def submit(self, body: Mapping[str, Any], wait_s: int | None, idempotency_key: str | None) -> Script[Job]:
        headers = {"Prefer": f"wait={wait_s}"} if wait_s is not None else {}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        call = Call(method="POST", path="/v1/jobs", json=dict(body), headers=headers)
        return self._job((yield from self._ask(call)))

    def get(self, job_id: str) -> Script[Job]:
        return self._job((yield from self._get(f"/v1/jobs/{job_id}")))

    def cancel(self, job_id: str) -> Script[Job]:
        call = Call(method="POST", path=f"/v1/jobs/{job_id}/cancel", repeatable=True)
        return self._job((yield from self._ask(call)))

    def jobs(self, status: str | None, batch_id: str | None, limit: int | None) -> Script[None]:
        size = PAGE if limit is None else min(max(limit, 1), PAGE)
        asked = {"status": status, "batch": batch_id, "limit": size}
        yield from self._pages("/v1/jobs", asked, limit, self._job)

    def wait(
        self, thing: Job | Batch | str, timeout_s: float | None, progress: Callable[[Any], object] | None
    ) -> Script[Any]:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        interval = FIRST_POLL_S
        current: Any = (yield from self._look(thing)) if isinstance(thing, str) else thing
        while True:
            if progress:
                progress(current)
            if current.finished:
                return current
            if deadline is not None and time.monotonic() + interval > deadline:
                raise WaitTimeout(f"{current.id} is {current.status} after {timeout_s:g} s")
            yield Pause(interval)
            interval = min(interval * 1.5, LAST_POLL_S)
            current = yield from self._look(current.id)

    def _look(self, id_: str) -> Script[Any]:
        return (yield from self.get_batch(id_) if id_.startswith("batch_") else self.get(id_))

    def generate(self, prompt: str, fields: Mapping[str, Any], timeout_s: float | None) -> Script[Images]:
        job = yield from self.submit({"prompt": prompt, **fields}, None, _any_key())
        job = yield from self.wait(job, timeout_s, None)
        if not job.succeeded:
            raise JobFailed(job)
        return (yield from self.fetch(job.images))

    def events(self, thing: Job | Batch | str, last_event_id: str | None) -> Script[None]:
        id_ = thing if isinstance(thing, str) else thing.id
        patience_s = self._patience_s

        def read(event_id: str, name: str, data: Mapping[str, Any]) -> Event:
            about = _batch(data) if data.get("object") == "batch" else self._job(data)
            return Event(id=event_id, name=name, data=about)

        kind = "batches" if id_.startswith("batch_") else "jobs"
        yield from following(f"/v1/{kind}/{id_}/events", last_event_id, patience_s, read)

    # Images

    def image(self, image_id: str) -> Script[Image]:
        return self._image((yield from self._get(f"/v1/images/{image_id}")))

    def images(self, limit: int | None) -> Script[None]:
        size = PAGE if limit is None else min(max(limit, 1), PAGE)
        yield from self._pages("/v1/images", {"take": size}, limit, self._image)

    def download(self, image: Image | str) -> Script[bytes]:
        image_id = image if isinstance(image, str) else image.id
        response = yield from self.call(Call(method="GET", path=f"/v1/images/{image_id}/download"))
        content: bytes = response.content
        return content

    def fetch(self, images: Iterable[Image]) -> Script[Images]:
        wanted = list(images)
        contents = yield Together([self.download(image) for image in wanted])
        return Images(image.holding(content) for image, content in zip(wanted, contents, strict=True))

    # Batches

    def upload(self, file: Any, name: str) -> Script[File]:
        # Sent a second time it is a second file, which no batch uses.
        call = Call(
            method="POST",
            path="/v1/files",
            form={"purpose": "batch"},
            files={"file": (name, file, "application/jsonl")},
            repeatable=True,
        )
        return _file((yield from self._ask(call)))

    def files(self, purpose: str | None, limit: int | None) -> Script[None]:
        yield from self._cursor_pages("/v1/files", {"purpose": purpose}, limit, _file)

    def file_content(self, file_id: str) -> Script[bytes]:
        response = yield from self.call(Call(method="GET", path=f"/v1/files/{file_id}/content"))
        content: bytes = response.content
        return content

    def create_batch(self, body: Mapping[str, Any], idempotency_key: str | None) -> Script[Batch]:
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        asked = {name: value for name, value in body.items() if value is not None}
        return _batch((yield from self._ask(Call(method="POST", path="/v1/batches", json=asked, headers=headers))))

    def batch(self, requests: Iterable[Mapping[str, Any] | str], fields: Mapping[str, Any], body: Any) -> Script[Batch]:
        endpoint, content = batch_files.of(requests, fields)
        file = yield from self.upload(content, "batch.jsonl")
        return (yield from self.create_batch({**body, "input_file_id": file.id, "endpoint": endpoint}, _any_key()))

    def get_batch(self, batch_id: str) -> Script[Batch]:
        return _batch((yield from self._get(f"/v1/batches/{batch_id}")))

    def cancel_batch(self, batch_id: str) -> Script[Batch]:
        return _batch((yield from self._ask(Call(method="POST", path=f"/v1/batches/{batch_id}/cancel"))))

    def batches(self, limit: int | None) -> Script[None]:
        yield from self._cursor_pages("/v1/batches", {}, limit, _batch)

    def finished_jobs(self, batch_id: str, seen: int) -> Script[tuple[list[Job], int, bool]]:
        """Jobs of a batch in the order in which they ended, without the first `seen`; how many are seen; more?"""
        page = yield from self._get("/v1/jobs", batch=batch_id, order="finished", after=seen, limit=PAGE)
        return [self._job(job) for job in items(page)], int(page["after"]), bool(page["has_more"])

    def results(self, batch: Batch | str) -> Script[None]:
        batch_id = batch if isinstance(batch, str) else batch.id
        seen, interval = 0, FIRST_POLL_S
        while True:
            # The batch first: what it knows of being finished includes the end of every job.
            finished = (yield from self.get_batch(batch_id)).finished
            found, seen, more = yield from self.finished_jobs(batch_id, seen)
            for job in found:
                yield Emit(job)
            if more:
                continue
            if finished:
                return
            interval = FIRST_POLL_S if found else min(interval * 1.5, LAST_POLL_S)
            yield Pause(interval)

    def failures(self, batch: Batch | str) -> Script[list[LineFailure]]:
        current = yield from self.get_batch(batch if isinstance(batch, str) else batch.id)
        if current.error_file_id is None:
            return list(current.errors)
        rows = (yield from self.file_content(current.error_file_id)).splitlines()
        return [_failure(parsed(row, current.error_file_id)) for row in rows]

    # The farm

    def models(self) -> Script[list[Model]]:
        return [understood(Model.from_json, data) for data in items((yield from self._get("/v1/models")))]

    def model(self, model_id: str) -> Script[Model]:
        return understood(Model.from_json, (yield from self._get(f"/v1/models/{model_id}")))

    def account(self, days: int | None) -> Script[Account]:
        return understood(Account.from_json, (yield from self._get("/v1/account", days=days)))

    def _pages(self, path: str, asked: Mapping[str, Any], limit: int | None, make: Make) -> Script[None]:
        """Emits what is made of the items of a list whose pages name the next one."""
        left = limit
        page = yield from self._get(path, **asked)
        while True:
            for item in items(page):
                if left is not None:
                    if left <= 0:
                        return
                    left -= 1
                yield Emit(make(item))
            following_page = page["links"].get("next")
            if not following_page or left == 0:
                return
            page = yield from self._get(following_page)

    def _cursor_pages(self, path: str, asked: Mapping[str, Any], limit: int | None, make: Make) -> Script[None]:
        """Emits what is made of the items of a list as in the OpenAI API: the last item's id is the cursor."""
        left = limit
        after = None
        while left is None or left > 0:
            page = yield from self._get(path, limit=PAGE if left is None else min(left, PAGE), after=after, **asked)
            for item in items(page):
                yield Emit(make(item))
            left = None if left is None else left - len(page["data"])
            after = page["last_id"]
            if not page["has_more"]:
                return


def _batch(data: Mapping[str, Any]) -> Batch:
    return understood(Batch.from_json, data)


def _file(data: Mapping[str, Any]) -> File:
    return understood(File.from_json, data)


def _failure(data: Mapping[str, Any]) -> LineFailure:
    return understood(lambda entry: LineFailure.from_json(entry["error"], entry["custom_id"]), data)


def _any_key() -> str:
    """An Idempotency-Key of one call, which may be sent again then when nobody knows what became of it."""
    return f"call-{secrets.token_hex(16)}"


def _has_key(headers: Mapping[str, str]) -> bool:
    return any(name.lower() == "idempotency-key" for name in headers)


def batch_body(priority: str | None, window: str, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """What is said of a batch beside its file."""
    return {"priority": priority, "completion_window": window, "metadata": None if metadata is None else dict(metadata)}


def batch_input(file: File | str, endpoint: str) -> dict[str, str]:
    """The file of a batch, and what its lines are for."""
    return {"input_file_id": file if isinstance(file, str) else file.id, "endpoint": endpoint}

"""Talk to a farm from Python.

from client import Client

farm = Client()
farm.generate("a lighthouse at dusk", model="flux-schnell").save("pictures")
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar, overload

import httpx

from client.batches import Batch, File, LineFailure
from client.catalog import Account, Model
from client.errors import api_error
from client.events import Event
from client.images import Image, Images
from client.jobs import Job
from client.lines import NATIVE_PATH
from client.scripts import PATIENCE_S, WINDOW, OnRetry, Scripts, batch_body, batch_input
from client.steps import Call, Emit, Listen, NextLine, Pause, Performance, Script, Step, Together
from client.wire import AT_ONCE, HEARTBEAT_TIMEOUT, broken, name_of, opened, options

T = TypeVar("T")


class Client:
    """One farm, one key. Every method raises ApiError where the farm says no, Unreachable where it does not answer."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        patience_s: float = PATIENCE_S,
        on_retry: OnRetry | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """A client of the farm at `base_url`, with or without `/v1` at its end, as SDKs of other services want it.

        Without an address or a key they are RENDERMILL_URL and RENDERMILL_API_KEY, else those of the farm whose data
        directory is `.rendermill` here. For `patience_s` seconds a call that can safely be repeated (GET, or any with
        an Idempotency-Key) is tried again when the farm is busy or being restarted; `on_retry` is told the error, and
        None once the farm answers again. A farm that never answered is not waited for.
        """
        self._scripts = Scripts(patience_s, self.download, on_retry)
        self._http = httpx.Client(**options(base_url, api_key), transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The farm's address."""
        return str(self._http.base_url)

    def close(self) -> None:
        """Let the connections go."""
        self._http.close()

    def request(
        self, method: str, path: str, *, json: Any = None, headers: Mapping[str, str] | None = None, **params: Any
    ) -> httpx.Response:
        """Any call of the API; its answer, when that is no error. `path` may be a whole address as well."""
        response: httpx.Response = self._run(
            self._scripts.call(Call(method=method, path=path, json=json, headers=headers or {}, params=params))
        )
        return response

    @contextmanager
    def stream(self, path: str) -> Iterator[httpx.Response]:
        """The answer of a GET that may be too large for memory, to be read piece by piece."""
        with broken(self._http), closing(self._send(Call(method="GET", path=path), stream=True)) as response:
            yield response

    # Jobs

    def generate(self, prompt: str, *, model: str, timeout_s: float | None = None, **fields: Any) -> Images:
        """The pictures of one prompt, with their files. `fields` are those of a job: width, seed, n, …

        Raises JobFailed where there are none, and WaitTimeout.
        """
        return self._run(self._scripts.generate(prompt, {"model": model, **fields}, timeout_s))

    def submit(self, body: Mapping[str, Any], *, wait_s: int | None = None, idempotency_key: str | None = None) -> Job:
        """Hand a job in; with `wait_s` (1 to 300), hold the line until it is finished or that time is over."""
        return self._run(self._scripts.submit(body, wait_s, idempotency_key))

    def get(self, job_id: str) -> Job:
        """The job as it is now."""
        return self._run(self._scripts.get(job_id))

    @overload
    def wait(
        self, thing: Batch, *, timeout_s: float | None = None, progress: Callable[[Batch], object] | None = None
    ) -> Batch: ...

    @overload
    def wait(
        self, thing: Job | str, *, timeout_s: float | None = None, progress: Callable[[Job], object] | None = None
    ) -> Job: ...

    def wait(
        self,
        thing: Job | Batch | str,
        *,
        timeout_s: float | None = None,
        progress: Callable[[Any], object] | None = None,
    ) -> Job | Batch:
        """The job or batch once it is finished; `progress` is shown it each time it is looked at.

        Raises WaitTimeout when that takes more than `timeout_s`; it goes on.
        """
        waited: Job | Batch = self._run(self._scripts.wait(thing, timeout_s, progress))
        return waited

    def cancel(self, job_id: str) -> Job:
        """Cancel a job. One that is finished stays as it is."""
        return self._run(self._scripts.cancel(job_id))

    def jobs(self, *, status: str | None = None, batch: str | None = None, limit: int | None = None) -> Iterator[Job]:
        """The newest jobs first, at most `limit`, page after page."""
        return self._iterate(self._scripts.jobs(status, batch, limit))

    def events(self, thing: Job | Batch | str, *, last_event_id: str | None = None) -> Iterator[Event]:
        """What happens to a job or batch, to its end. The id of an event, given later, goes on after it."""
        return self._iterate(self._scripts.events(thing, last_event_id))

    # Images

    def image(self, image_id: str) -> Image:
        """What the farm knows of a picture."""
        return self._run(self._scripts.image(image_id))

    def images(self, *, limit: int | None = None) -> Iterator[Image]:
        """The newest images first, at most `limit`, page after page."""
        return self._iterate(self._scripts.images(limit))

    def download(self, image: Image | str) -> bytes:
        """The picture's file."""
        return self._run(self._scripts.download(image))

    def fetch(self, images: Iterable[Image]) -> Images:
        """The same images with their files, several of which come at once."""
        return self._run(self._scripts.fetch(images))

    # Batches

    def batch(
        self,
        requests: Iterable[Mapping[str, Any] | str],
        *,
        priority: str | None = None,
        window: str = WINDOW,
        metadata: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Batch:
        """Hand in many requests: prompts, bodies of jobs, or lines as of a file; `fields` are for those that lack them.

        The farm reads them in its own time; 'low' is the priority if none is given. Raises LineError.
        """
        return self._run(self._scripts.batch(requests, fields, batch_body(priority, window, metadata)))

    def create_batch(
        self,
        input_file: File | str,
        *,
        endpoint: str = NATIVE_PATH,
        priority: str | None = None,
        window: str = WINDOW,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Batch:
        """Hand in a batch of a file that was uploaded."""
        return self._run(
            self._scripts.create_batch(
                {**batch_body(priority, window, metadata), **batch_input(input_file, endpoint)}, idempotency_key
            )
        )

    def upload(self, file: str | Path | BinaryIO | bytes, *, name: str | None = None) -> File:
        """Upload a file of lines for a batch."""
        with opened(file) as content:
            return self._run(self._scripts.upload(content, name or name_of(file)))

    def get_batch(self, batch_id: str) -> Batch:
        """The batch as it is now."""
        return self._run(self._scripts.get_batch(batch_id))

    def cancel_batch(self, batch_id: str) -> Batch:
        """Call a batch off; what is rendered already stays. Raises Conflict where it is finished."""
        return self._run(self._scripts.cancel_batch(batch_id))

    def batches(self, *, limit: int | None = None) -> Iterator[Batch]:
        """The newest batches first, at most `limit`, page after page."""
        return self._iterate(self._scripts.batches(limit))

    def results(self, batch: Batch | str) -> Iterator[Job]:
        """The jobs of a batch as they end, each with its `custom_id`; returns with the last one.

        Lines that the farm refuses become no job: see `failures`."""
        return self._iterate(self._scripts.results(batch))

    def finished_jobs(self, batch_id: str, *, seen: int = 0) -> tuple[list[Job], int, bool]:
        """Up to 100 jobs in the order in which they ended, without the first `seen`; how many are seen; any more?"""
        return self._run(self._scripts.finished_jobs(batch_id, seen))

    def failures(self, batch: Batch | str) -> list[LineFailure]:
        """The lines of a finished batch that made no pictures, and why."""
        return self._run(self._scripts.failures(batch))

    def files(self, *, purpose: str | None = None, limit: int | None = None) -> Iterator[File]:
        """The newest files first, at most `limit`, page after page; `purpose` is `batch` or `batch_output`."""
        return self._iterate(self._scripts.files(purpose, limit))

    def file_content(self, file_id: str) -> bytes:
        """The bytes of a file: what was uploaded, or what became of a batch."""
        return self._run(self._scripts.file_content(file_id))

    # The farm

    def models(self) -> list[Model]:
        """The catalog: each model with its parameters, limits and defaults."""
        return self._run(self._scripts.models())

    def model(self, model_id: str) -> Model:
        """One model, by its id or an alias."""
        return self._run(self._scripts.model(model_id))

    def account(self, *, days: int | None = None) -> Account:
        """Whose key this is: balance, limits, and the usage of the last days."""
        return self._run(self._scripts.account(days))

    # How it is done

    def _run(self, script: Script[T]) -> T:
        performance = Performance(script)
        for _ in self._perform(performance):
            pass
        result: T = performance.result
        return result

    def _iterate(self, script: Script[None]) -> Iterator[Any]:
        return self._perform(Performance(script))

    def _perform(self, performance: Performance) -> Iterator[Any]:
        try:
            while (step := performance.step()) is not None:
                if isinstance(step, Emit):
                    yield step.item
                    continue
                with performance.telling():
                    performance.answer = self._do(step, performance)
        finally:
            self._hang_up(performance)

    def _do(self, step: Step, performance: Performance) -> Any:
        match step:
            case Call():
                return self._send(step)
            case Pause(seconds):
                time.sleep(seconds)
            case Together(scripts):
                with ThreadPoolExecutor(AT_ONCE) as threads:
                    return list(threads.map(self._run, scripts))
            case Listen(call):
                self._hang_up(performance)
                response = self._send(call, stream=True)
                performance.stream = response, response.iter_lines()
                return response.status_code
            case NextLine() if performance.stream:
                with broken(self._http):
                    return next(performance.stream[1], None)
        return None

    def _send(self, call: Call, *, stream: bool = False) -> httpx.Response:
        request = call.request(self._http)
        if stream:
            request.extensions["timeout"] = HEARTBEAT_TIMEOUT
        with broken(self._http):
            response = self._http.send(request, stream=stream)
            if response.is_error:
                response.read()
                raise api_error(response)
        return response

    def _hang_up(self, performance: Performance) -> None:
        if performance.stream:
            performance.stream[0].close()

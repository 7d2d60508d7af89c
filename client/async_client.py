"""Talk to a farm from Python, within asyncio: the same methods as Client's, awaited, and `async for` where it iterates.

from client import AsyncClient

async with AsyncClient() as farm:
    images = await farm.generate("a lighthouse at dusk", model="flux-schnell")
    images.save("pictures")
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
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


class AsyncClient:
    """As Client, within asyncio. Its images have their files only after `fetch` or `generate`."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        patience_s: float = PATIENCE_S,
        on_retry: OnRetry | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """As a Client's."""
        self._scripts = Scripts(patience_s, None, on_retry)
        self._http = httpx.AsyncClient(**options(base_url, api_key), transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def url(self) -> str:
        """The farm's address."""
        return str(self._http.base_url)

    async def aclose(self) -> None:
        """Let the connections go."""
        await self._http.aclose()

    async def request(
        self, method: str, path: str, *, json: Any = None, headers: Mapping[str, str] | None = None, **params: Any
    ) -> httpx.Response:
        """Any call of the API; its answer, when that is no error. `path` may be a whole address as well."""
        response: httpx.Response = await self._run(
            self._scripts.call(Call(method=method, path=path, json=json, headers=headers or {}, params=params))
        )
        return response

    @asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[httpx.Response]:
        """The answer of a GET that may be too large for memory, to be read piece by piece."""
        with broken(self._http):
            async with aclosing(await self._send(Call(method="GET", path=path), stream=True)) as response:
                yield response

    # Jobs

    async def generate(self, prompt: str, *, model: str, timeout_s: float | None = None, **fields: Any) -> Images:
        """The pictures of one prompt, with their files. `fields` are those of a job: width, seed, n, …

        Raises JobFailed where there are none, and WaitTimeout.
        """
        return await self._run(self._scripts.generate(prompt, {"model": model, **fields}, timeout_s))

    async def submit(
        self, body: Mapping[str, Any], *, wait_s: int | None = None, idempotency_key: str | None = None
    ) -> Job:
        """Hand a job in; with `wait_s` (1 to 300), hold the line until it is finished or that time is over."""
        return await self._run(self._scripts.submit(body, wait_s, idempotency_key))

    async def get(self, job_id: str) -> Job:
        """The job as it is now."""
        return await self._run(self._scripts.get(job_id))

    @overload
    async def wait(
        self, thing: Batch, *, timeout_s: float | None = None, progress: Callable[[Batch], object] | None = None
    ) -> Batch: ...

    @overload
    async def wait(
        self, thing: Job | str, *, timeout_s: float | None = None, progress: Callable[[Job], object] | None = None
    ) -> Job: ...

    async def wait(
        self,
        thing: Job | Batch | str,
        *,
        timeout_s: float | None = None,
        progress: Callable[[Any], object] | None = None,
    ) -> Job | Batch:
        """The job or batch once it is finished; `progress` is shown it each time it is looked at.

        Raises WaitTimeout when that takes more than `timeout_s`; it goes on.
        """
        waited: Job | Batch = await self._run(self._scripts.wait(thing, timeout_s, progress))
        return waited

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job. One that is finished stays as it is."""
        return await self._run(self._scripts.cancel(job_id))

    def jobs(
        self, *, status: str | None = None, batch: str | None = None, limit: int | None = None
    ) -> AsyncIterator[Job]:
        """The newest jobs first, at most `limit`, page after page."""
        return self._iterate(self._scripts.jobs(status, batch, limit))

    def events(self, thing: Job | Batch | str, *, last_event_id: str | None = None) -> AsyncIterator[Event]:
        """What happens to a job or batch, to its end. The id of an event, given later, goes on after it."""
        return self._iterate(self._scripts.events(thing, last_event_id))

    # Images

    async def image(self, image_id: str) -> Image:
        """What the farm knows of a picture."""
        return await self._run(self._scripts.image(image_id))

    def images(self, *, limit: int | None = None) -> AsyncIterator[Image]:
        """The newest images first, at most `limit`, page after page."""
        return self._iterate(self._scripts.images(limit))

    async def download(self, image: Image | str) -> bytes:
        """The picture's file."""
        return await self._run(self._scripts.download(image))

    async def fetch(self, images: Iterable[Image]) -> Images:
        """The same images with their files, several of which come at once."""
        return await self._run(self._scripts.fetch(images))

    # Batches

    async def batch(
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
        return await self._run(self._scripts.batch(requests, fields, batch_body(priority, window, metadata)))

    async def create_batch(
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
        return await self._run(
            self._scripts.create_batch(
                {**batch_body(priority, window, metadata), **batch_input(input_file, endpoint)}, idempotency_key
            )
        )

    async def upload(self, file: str | Path | BinaryIO | bytes, *, name: str | None = None) -> File:
        """Upload a file of lines for a batch."""
        with opened(file) as content:
            return await self._run(self._scripts.upload(content, name or name_of(file)))

    async def get_batch(self, batch_id: str) -> Batch:
        """The batch as it is now."""
        return await self._run(self._scripts.get_batch(batch_id))

    async def cancel_batch(self, batch_id: str) -> Batch:
        """Call a batch off; what is rendered already stays. Raises Conflict where it is finished."""
        return await self._run(self._scripts.cancel_batch(batch_id))

    def batches(self, *, limit: int | None = None) -> AsyncIterator[Batch]:
        """The newest batches first, at most `limit`, page after page."""
        return self._iterate(self._scripts.batches(limit))

    def results(self, batch: Batch | str) -> AsyncIterator[Job]:
        """The jobs of a batch as they end, each with its `custom_id`; returns with the last one.

        Lines that the farm refuses become no job: see `failures`."""
        return self._iterate(self._scripts.results(batch))

    async def finished_jobs(self, batch_id: str, *, seen: int = 0) -> tuple[list[Job], int, bool]:
        """Up to 100 jobs in the order in which they ended, without the first `seen`; how many are seen; any more?"""
        return await self._run(self._scripts.finished_jobs(batch_id, seen))

    async def failures(self, batch: Batch | str) -> list[LineFailure]:
        """The lines of a finished batch that made no pictures, and why."""
        return await self._run(self._scripts.failures(batch))

    def files(self, *, purpose: str | None = None, limit: int | None = None) -> AsyncIterator[File]:
        """The newest files first, at most `limit`, page after page; `purpose` is `batch` or `batch_output`."""
        return self._iterate(self._scripts.files(purpose, limit))

    async def file_content(self, file_id: str) -> bytes:
        """The bytes of a file: what was uploaded, or what became of a batch."""
        return await self._run(self._scripts.file_content(file_id))

    # The farm

    async def models(self) -> list[Model]:
        """The catalog: each model with its parameters, limits and defaults."""
        return await self._run(self._scripts.models())

    async def model(self, model_id: str) -> Model:
        """One model, by its id or an alias."""
        return await self._run(self._scripts.model(model_id))

    async def account(self, *, days: int | None = None) -> Account:
        """Whose key this is: balance, limits, and the usage of the last days."""
        return await self._run(self._scripts.account(days))

    # How it is done

    async def _run(self, script: Script[T]) -> T:
        performance = Performance(script)
        async for _ in self._perform(performance):
            pass
        result: T = performance.result
        return result

    def _iterate(self, script: Script[None]) -> AsyncIterator[Any]:
        return self._perform(Performance(script))

    async def _perform(self, performance: Performance) -> AsyncIterator[Any]:
        try:
            while (step := performance.step()) is not None:
                if isinstance(step, Emit):
                    yield step.item
                    continue
                with performance.telling():
                    performance.answer = await self._do(step, performance)
        finally:
            await self._hang_up(performance)

    async def _do(self, step: Step, performance: Performance) -> Any:
        match step:
            case Call():
                return await self._send(step)
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Together(scripts):
                return await self._gather(scripts)
            case Listen(call):
                await self._hang_up(performance)
                response = await self._send(call, stream=True)
                performance.stream = response, response.aiter_lines()
                return response.status_code
            case NextLine() if performance.stream:
                with broken(self._http):
                    return await anext(performance.stream[1], None)
        return None

    async def _send(self, call: Call, *, stream: bool = False) -> httpx.Response:
        request = call.request(self._http)
        if stream:
            request.extensions["timeout"] = HEARTBEAT_TIMEOUT
        with broken(self._http):
            response = await self._http.send(request, stream=stream)
            if response.is_error:
                await response.aread()
                raise api_error(response)
        return response

    async def _hang_up(self, performance: Performance) -> None:
        if performance.stream:
            await performance.stream[0].aclose()

    async def _gather(self, scripts: Sequence[Script[Any]]) -> list[Any]:
        places = asyncio.Semaphore(AT_ONCE)

        async def run(script: Script[Any]) -> Any:
            async with places:
                return await self._run(script)

        return await asyncio.gather(*map(run, scripts))

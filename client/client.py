"""Talk to a farm from Python.

with Client("http://127.0.0.1:8080", key) as farm:
    job = farm.wait(farm.submit({"model": "flux-schnell", "prompt": "a lighthouse"}))
    for image in job.images:
        Path(f"{image.id}.{image.format}").write_bytes(farm.download(image))
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from client.errors import ApiError, ClientError, Unreachable, WaitTimeout, api_error
from client.jobs import Image, Job
from client.retry import Patience

#: The first look at a job comes this soon, in seconds; later ones further apart, up to the second number.
_FIRST_POLL_S = 0.1
_LAST_POLL_S = 2.0
#: The farm answers at once, or holds a connection for as long as `Prefer: wait` allows: five minutes.
_TIMEOUT = httpx.Timeout(10.0, read=330.0)


class Client:
    """One farm, one key. Every method raises ApiError where the farm says no, Unreachable where it does not answer."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        patience_s: float = 0.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """A client of the farm at `base_url`, with or without `/v1` at its end, as SDKs of other services want it.

        For `patience_s` seconds a call that can safely be repeated (GET, or any with an Idempotency-Key) is tried
        again when the farm is busy or being restarted. A farm that never answered is not waited for.
        """
        self._patience_s = patience_s
        self._answered = False
        self._http = httpx.Client(
            base_url=base_url.rstrip("/").removesuffix("/v1"),
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=_TIMEOUT,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let the connections go."""
        self._http.close()

    def request(
        self, method: str, path: str, *, json: Any = None, headers: Mapping[str, str] | None = None, **params: Any
    ) -> httpx.Response:
        """Any call of the API; its answer, when that is no error. `path` may be a whole address as well."""
        query = {name: value for name, value in params.items() if value is not None}
        try:
            request = self._http.build_request(method, path, json=json, headers=headers, params=query or None)
        except httpx.InvalidURL as error:
            raise ClientError(f"{path}: {error}") from error
        patience = Patience(self._patience_s if method == "GET" or "Idempotency-Key" in request.headers else 0.0)
        while True:
            try:
                return self._send(request)
            except (ApiError, Unreachable) as error:
                if not (self._answered and patience.pause(error)):
                    raise

    def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            response = self._http.send(request)
        except httpx.TransportError as error:
            raise Unreachable(f"No farm answers at {self._http.base_url}: {error or type(error).__name__}") from error
        self._answered = True
        if response.is_error:
            raise api_error(response)
        return response

    def submit(self, body: Mapping[str, Any], *, wait_s: int | None = None, idempotency_key: str | None = None) -> Job:
        """Hand a job in; with `wait_s` (1 to 300), hold the line until it is finished or that time is over."""
        headers = {}
        if wait_s is not None:
            headers["Prefer"] = f"wait={wait_s}"
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        return Job.from_json(self.request("POST", "/v1/jobs", json=dict(body), headers=headers).json())

    def get(self, job_id: str) -> Job:
        """The job as it is now."""
        return Job.from_json(self.request("GET", f"/v1/jobs/{job_id}").json())

    def wait(self, job: Job | str, *, timeout_s: float | None = None) -> Job:
        """The job once it is finished. Raises WaitTimeout when that takes more than `timeout_s`; the job goes on."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        interval = _FIRST_POLL_S
        current = self.get(job) if isinstance(job, str) else job
        while not current.finished:
            if deadline is not None and time.monotonic() + interval > deadline:
                raise WaitTimeout(f"{current.id} is {current.status} after {timeout_s:g} s")
            time.sleep(interval)
            interval = min(interval * 1.5, _LAST_POLL_S)
            current = self.get(current.id)
        return current

    def cancel(self, job_id: str) -> Job:
        """Cancel a job. One that is finished stays as it is."""
        return Job.from_json(self.request("POST", f"/v1/jobs/{job_id}/cancel").json())

    def jobs(self, *, status: str | None = None, limit: int | None = None) -> Iterator[Job]:
        """The newest jobs first, at most `limit`, page after page."""
        yield from map(Job.from_json, self._pages("/v1/jobs", limit, status=status))

    def images(self, *, limit: int | None = None) -> Iterator[Image]:
        """The newest images first, at most `limit`, page after page."""
        yield from map(Image.from_json, self._pages("/v1/images", limit))

    def models(self) -> list[dict[str, Any]]:
        """The catalog: each model with its parameters, limits and defaults."""
        models: list[dict[str, Any]] = self.request("GET", "/v1/models").json()["data"]
        return models

    def image(self, image_id: str) -> Image:
        """What the farm knows of a picture."""
        return Image.from_json(self.request("GET", f"/v1/images/{image_id}").json())

    def download(self, image: Image | str) -> bytes:
        """The picture's file."""
        image_id = image if isinstance(image, str) else image.id
        return self.request("GET", f"/v1/images/{image_id}/download").content

    def _pages(self, path: str, limit: int | None, **params: Any) -> Iterator[dict[str, Any]]:
        left = limit
        page = self.request("GET", path, **params).json()
        while True:
            for item in page["data"]:
                if left is not None:
                    if left <= 0:
                        return
                    left -= 1
                yield item
            following = page["links"].get("next")
            if not following:
                return
            page = self.request("GET", following).json()

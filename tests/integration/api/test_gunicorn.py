"""The front door as it is run: gunicorn with its configuration, several processes, a real Valkey and S3."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import httpx

from tests.background import working_on
from tests.fake_worker import FakeWorker
from tests.integration.api.conftest import MAX_BODY, Farm

BODY = {"model": "sdxl-lightning", "prompt": "a fox", "width": 256, "height": 256}


def test_a_job_goes_in_and_a_ticket_waits_at_the_broker(farm: Farm, http: httpx.Client) -> None:
    farm.redis.delete(queue := "render.ByteDance/SDXL-Lightning")
    job = http.post("/v1/jobs", json=BODY).json()
    assert job["status"] == "queued"
    (ticket,) = farm.redis.lrange(queue, 0, -1)
    message = json.loads(ticket)
    assert message["headers"]["task"] == "render"
    assert job["id"] not in ticket
    http.post("/v1/jobs", json=BODY)
    # No worker is alive: one spare ticket is enough for any number of jobs.
    assert farm.redis.llen(queue) == 1
    FakeWorker(farm.redis, farm.storage).work()


def test_a_client_waits_for_its_picture_and_downloads_it(farm: Farm, http: httpx.Client) -> None:
    with working_on(FakeWorker(farm.redis, farm.storage).work):
        answer = http.post("/v1/jobs", json=BODY, headers={"Prefer": "wait=10"})
    assert (answer.status_code, answer.json()["status"]) == (201, "succeeded")
    (image,) = answer.json()["images"]
    file = http.get(f"/v1/images/{image['id']}/download")
    assert len(file.content) == image["size"] == int(file.headers["content-length"])
    assert http.delete(f"/v1/images/{image['id']}").status_code == 204
    assert http.get(f"/v1/images/{image['id']}/download").status_code == 404


def test_events_arrive_while_the_job_goes_on(farm: Farm, http: httpx.Client) -> None:
    job = http.post("/v1/jobs", json=BODY).json()
    names = []
    with http.stream("GET", f"/v1/jobs/{job['id']}/events") as stream:
        lines = stream.iter_lines()
        for line in lines:
            if line.startswith("event: "):
                names.append(line.removeprefix("event: "))
            if names == ["job.queued"]:
                FakeWorker(farm.redis, farm.storage).work()
    assert names[0] == "job.queued"
    assert names[-1] == "job.succeeded"


def raw(farm: Farm, head: str, body: bytes = b"") -> bytes:
    """The first bytes of the answer to a request written by hand."""
    host, port = farm.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        request = f"{head}\r\nHost: {host}\r\nx-api-key: {farm.key}\r\nContent-Type: application/json\r\n\r\n"
        connection.sendall(request.encode() + body)
        return connection.recv(65536)


def test_a_body_over_the_limit_is_refused_before_it_is_sent(farm: Farm) -> None:
    assert raw(farm, f"POST /v1/jobs HTTP/1.1\r\nContent-Length: {10**12}").startswith(b"HTTP/1.1 413")


def test_a_client_that_sends_too_much_learns_why(http: httpx.Client) -> None:
    answer = http.post("/v1/jobs", content=b" " * 20 * MAX_BODY, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert http.get("/v1/jobs").status_code == 200, "the connection goes on"


def test_a_chunked_body_over_the_limit_is_refused(farm: Farm) -> None:
    chunk = b"%x\r\n%b\r\n" % (MAX_BODY + 1, b" " * (MAX_BODY + 1))
    answer = raw(farm, "POST /v1/jobs HTTP/1.1\r\nTransfer-Encoding: chunked", chunk + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_chunked_body_within_the_limit_is_read(farm: Farm, http: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        text = json.dumps(BODY).encode()
        yield text[:10]
        yield text[10:]

    assert http.post("/v1/jobs", content=pieces(), headers={"Content-Type": "application/json"}).status_code == 202
    FakeWorker(farm.redis, farm.storage).work()


def test_metrics_are_those_of_all_processes_together(farm: Farm, http: httpx.Client) -> None:
    def count() -> float:
        name = 'rendermill_http_requests_total{method="GET",route="/v1/models",status="200"}'
        lines = [line for line in http.get("/metrics").text.splitlines() if line.startswith(name)]
        return float(lines[0].rpartition(" ")[2]) if lines else 0.0

    before = count()
    for _ in range(20):
        # A new connection each time, so that both processes have their share.
        httpx.get(f"{farm.url}/v1/models", headers={"x-api-key": farm.key})
    assert count() == before + 20
    assert "rendermill_redis_up 1.0" in http.get("/metrics").text

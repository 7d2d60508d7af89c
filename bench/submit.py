"""One job at a time over HTTP: requests a second of the API, beside a bare Flask route that writes as much."""

from __future__ import annotations

from pathlib import Path

from bench.front_doors import bare_flask, rendermill_api
from bench.http_load import accepted_per_second
from bench.jobs import body
from bench.measuring import Row, Target, in_turn
from bench.processes import broker
from bench.sizes import Sizes

#: Enough to keep every process of the server busy.
_CLIENTS = 8


def run(sizes: Sizes, scratch: Path) -> list[Row]:
    with (
        broker(scratch) as server,
        rendermill_api(server, scratch) as (port, key),
        bare_flask(server, scratch) as peer_port,
    ):

        def rate(port: int) -> float:
            headers = {"Authorization": f"Bearer {key}"}
            return accepted_per_second(port, "/v1/jobs", body(1), headers, clients=_CLIENTS, measure_s=sizes.measure_s)

        return [
            Row(
                "POST /v1/jobs",
                "requests/s",
                "bare Flask route",
                in_turn(sizes.rounds, lambda: rate(port), lambda: rate(peer_port)),
                Target(0.5, at_least=True),
            )
        ]

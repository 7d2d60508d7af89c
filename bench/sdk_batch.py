"""A batch of the official OpenAI SDK through a whole farm, from the upload to the parsed output file.

    python -m bench.sdk_batch                              1,000 lines on a tiny model in the real format
    python -m bench.sdk_batch --synthetic --lines 50000    as many as a file may have, on models that only sleep

Prints what it saw, and fails where a line is lost or doubled: in the output file, among the events, in the archive.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
from openai import OpenAI
from openai.types import Batch

from bench.farm_throughput import environment_of_farms
from bench.processes import running
from bench.watching import watched
from farm import parts
from farm.embedded import EmbeddedFarm
from farm.runner import Runner
from shared.redis_client import connect
from shared.settings import PREFIX

#: Renders 1,280 images a second, if the machine can store as many.
CATALOG = """
[[model]]
id = "synthetic"
name = "Synthetic"
family = "synthetic"
modes = ["text-to-image"]
licence = "Apache-2.0"
batch_limit = 64
unit_cost = 0.2

[model.synthetic]
batch_s = 0.05

[model.guidance]
kind = "embedded"
default = 0
max = 0

[model.num_steps]
default = 1
max = 1

[model.size]
default = 64
min = 8
max = 512
multiple_of = 8
max_pixels = 262144
"""
TINY = {"model": "sdxl-lightning", "size": "256x256"}
SYNTHETIC = {"model": "synthetic", "size": "64x64"}
_POLL_S = 0.5
#: Pictures fetched by their links.
_SAMPLE = 50


class Wrong(Exception):
    """The farm did not do what it promises."""


@contextmanager
def farm(*, synthetic: bool, workers: int, scratch: Path) -> Iterator[EmbeddedFarm]:
    """A farm with so many render workers, ready."""
    (catalog := scratch / "catalog.toml").write_text(CATALOG)
    embedded = EmbeddedFarm(scratch / "data", "127.0.0.1", 0, print)
    with environment_of_farms({f"{PREFIX}CATALOG": str(catalog)} if synthetic else {}):
        embedded.start()
    try:
        embedded.wait_ready(300)
        with ExitStack() as more:
            environment = psutil.Process(pids(embedded)["render"]).environ()
            ours = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
            for number in range(1, workers):
                (folder := scratch / f"worker-{number}").mkdir()
                more.enter_context(running(parts.worker("render", 15), ours, folder))
            yield embedded
    finally:
        embedded.stop()


def pids(embedded: EmbeddedFarm) -> dict[str, int]:
    """The processes of a farm that runs, by their names."""
    state = embedded.data_dir.running()
    assert state is not None
    return {process.name: process.pid for process in Runner(state.runner_url).processes()}


def write_lines(file: Path, count: int, body: dict[str, str]) -> None:
    with file.open("w") as out:
        for number in range(count):
            asked = {**body, "prompt": f"a red fox in the snow, number {number}", "seed": number}
            line = {"custom_id": f"fox-{number}", "method": "POST", "url": "/v1/images/generations", "body": asked}
            out.write(json.dumps(line) + "\n")


class Stopwatch:
    """Tells what was done, and how long it took."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def tell(self, what: str, count: int = 0) -> None:
        took_s = time.monotonic() - self._last
        rate = f", {count / took_s:,.0f} lines a second" if count and took_s > _POLL_S else ""
        print(f"{what}: {took_s:.1f} s{rate}", flush=True)
        self._last = time.monotonic()


def run(url: str, key: str, file: Path, lines: int, scratch: Path) -> None:
    """The batch, from its upload to what its owner keeps. Raises Wrong."""
    watch = Stopwatch()
    with OpenAI(api_key=key, base_url=url + "/v1", max_retries=0, timeout=300) as sdk, file.open("rb") as opened:
        uploaded = sdk.files.create(file=opened, purpose="batch")
        watch.tell(f"upload of {uploaded.bytes / 2**20:.1f} MB")
        batch = sdk.batches.create(
            input_file_id=uploaded.id, endpoint="/v1/images/generations", completion_window="24h"
        )
        told: Counter[str] = Counter()
        follower = threading.Thread(target=_follow, args=(url, key, batch.id, told))
        follower.start()
        done = _finished(sdk, batch, lines, watch)
        if done.status != "completed" or done.output_file_id is None or done.error_file_id is not None:
            raise Wrong(f"the batch is {done.status}, with errors {done.errors}: {done.request_counts}")
        follower.join()
        _once(told, lines, "events")
        watch.tell("last events")
        links = _output(sdk, done.output_file_id, lines)
        watch.tell("output file, downloaded and parsed")
        with httpx.Client() as anybody:
            for link in random.sample(links, min(_SAMPLE, lines)):
                picture = anybody.get(link)
                if picture.headers["content-type"] != "image/png" or not picture.content.startswith(b"\x89PNG"):
                    raise Wrong(f"{link} is no picture")
        watch.tell(f"{min(_SAMPLE, lines)} pictures by their links")
        _archive(url, key, done.id, lines, scratch / "archive.zip")
        watch.tell("archive", lines)


def _finished(sdk: OpenAI, batch: Batch, lines: int, watch: Stopwatch) -> Batch:
    """The batch once it has ended; tells of its phases."""
    phase, rendered = batch.status, False
    while True:
        time.sleep(_POLL_S)
        batch = sdk.batches.retrieve(batch.id)
        if phase == "validating" and batch.status != phase:
            watch.tell("counting of the lines")
            phase = batch.status
        counts = batch.request_counts
        assert counts is not None
        if not rendered and counts.completed + counts.failed >= lines:
            watch.tell("ingest and rendering", lines)
            rendered = True
        if batch.status in ("completed", "failed", "expired", "cancelled"):
            watch.tell("output file and manifest written", lines)
            return batch


def _follow(url: str, key: str, batch_id: str, told: Counter[str]) -> None:
    """Count the jobs that the batch's events tell of; the connection is cut now and then, and resumed."""
    last_id, over = "", False
    with httpx.Client(headers={"x-api-key": key}, timeout=300) as http:
        while not over:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            with http.stream("GET", f"{url}/v1/batches/{batch_id}/events?jobs=true", headers=headers) as stream:
                over = stream.status_code == httpx.codes.NO_CONTENT
                for number, text in enumerate(stream.iter_lines()):
                    name, _, value = text.partition(": ")
                    if name == "id":
                        last_id = value
                    elif name == "data" and (custom_id := json.loads(value).get("custom_id")):
                        told[custom_id] += 1
                    elif not text and number > 20_000:
                        break


def _output(sdk: OpenAI, file_id: str, lines: int) -> list[str]:
    """The links of an output file in which each line is once."""
    rows = [json.loads(text) for text in sdk.files.content(file_id).text.splitlines()]
    _once(Counter(row["custom_id"] for row in rows), lines, "the output file")
    if [row["custom_id"] for row in rows] != [f"fox-{number}" for number in range(lines)]:
        raise Wrong("the output file is not in the order of the input")
    return [row["response"]["body"]["data"][0]["url"] for row in rows]


def _archive(url: str, key: str, batch_id: str, lines: int, target: Path) -> None:
    headers = {"x-api-key": key}
    with (
        httpx.stream("GET", f"{url}/v1/batches/{batch_id}/archive", headers=headers, timeout=600) as answer,
        target.open("wb") as out,
    ):
        answer.raise_for_status()
        for piece in answer.iter_bytes():
            out.write(piece)
    with zipfile.ZipFile(target) as bundle:
        if (bad := bundle.testzip()) is not None:
            raise Wrong(f"{bad} of the archive is damaged")
        named = Counter(name.removesuffix(".png") for name in bundle.namelist() if name != "manifest.csv")
        _once(named, lines, "the archive")
        print(f"archive of {target.stat().st_size / 2**20:.0f} MB")


def _once(found: Counter[str], lines: int, where: str) -> None:
    if found != Counter(f"fox-{number}" for number in range(lines)):
        raise Wrong(f"{where}: {len(found)} of {lines} lines, {found.total()} entries")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sdk_batch", description="A batch through a whole farm.")
    parser.add_argument("--lines", type=int, default=1_000)
    parser.add_argument("--synthetic", action="store_true", help="a model that sleeps instead of rendering")
    parser.add_argument("--workers", type=int, default=1, help="render workers")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="rendermill-bench-sdk-") as name:
        scratch = Path(name)
        write_lines(scratch / "lines.jsonl", given.lines, SYNTHETIC if given.synthetic else TINY)
        with farm(synthetic=given.synthetic, workers=given.workers, scratch=scratch) as embedded:
            state = embedded.data_dir.running()
            assert state is not None
            key = embedded.data_dir.api_key_file.read_text()
            began = time.monotonic()
            with connect(state.redis_url) as redis, watched(embedded.url, key, redis, pids(embedded)) as seen:
                run(embedded.url, key, scratch / "lines.jsonl", given.lines, scratch)
            print(f"all of it: {time.monotonic() - began:.1f} s")
            print("\n".join(seen.lines()))


if __name__ == "__main__":
    main()

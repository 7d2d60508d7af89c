"""Images per second on the device at hand: diffusers alone, the engine, and the whole farm.

    python -m bench.gpu                             every workload at full size, on the GPU, in under ten minutes
    python -m bench.gpu --only lightning,schnell    some of them
    python -m bench.gpu --device cpu --tiny         the same paths with tiny checkpoints, in seconds

Weights are random and made on the spot; nothing is downloaded. Each workload runs as a plain diffusers loop, one image
at a time, then through the engine at growing batch sizes, then through an embedded farm at the catalog's batch limit,
with jobs that come in by HTTP and pictures that land in S3. Results are printed and written to bench/results/gpu.json
after each workload, so that what was measured survives what happens next.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from bench import full_size
from bench.farm_throughput import ThroughputError, images_per_second_through_farm
from bench.workloads import Workload
from client.errors import ClientError
from farm.errors import FarmError
from shared.catalog import Catalog, catalog
from shared.models import Compile
from shared.settings import Settings
from worker.engine import Engine, Rendered, tiny

RESULTS = Path(__file__).parent / "results" / "gpu.json"
#: Nothing new is begun after this long, so that all is over in ten minutes.
BUDGET_S = 480.0
#: A rate is measured for at least this long, after a first call that is not counted.
_MEASURE_S = 6.0
#: A farm is measured over about this many seconds of work, but over so many batches at least and at most.
_FARM_S, _FARM_BATCHES = 12.0, (3, 10)

FULL = (
    Workload("lightning", "ByteDance/SDXL-Lightning", 1024, None, 21.0),
    Workload("base", "stabilityai/stable-diffusion-xl-base-1.0", 1024, None, 1.9),
    Workload("schnell", "black-forest-labs/FLUX.1-schnell", 1024, None, 2.72),
    Workload("fill", "black-forest-labs/FLUX.1-Fill-dev", 1024, None, 0.375),
)
TINY = tuple(replace(workload, side=256, num_steps=4) for workload in FULL)


@dataclass(slots=True)
class Result:
    """Rates of one workload, in images per second. None where time ran out before it was measured."""

    workload: str
    model: str
    side: int
    num_steps: int
    plain: float | None = None
    load_s: float | None = None
    #: By batch size.
    engine: dict[int, float] = field(default_factory=dict)
    #: By how many levels of 255 a picture of a full batch differs at most from the same one alone.
    batch_difference: float | None = None
    #: At the catalog's batch limit.
    farm: float | None = None
    h200_floor: float | None = None


@dataclass(frozen=True, slots=True)
class Options:
    device: str
    tiny: bool
    models_dir: Path
    batches: tuple[int, ...]
    measure_s: float
    compile: Compile
    deadline: float
    with_farm: bool
    results: Path

    @property
    def out_of_time(self) -> bool:
        return time.monotonic() > self.deadline


def run(workloads: Sequence[Workload], options: Options) -> list[Result]:
    """Measure the workloads one after the other; print and write each."""
    results: list[Result] = []
    for index, workload in enumerate(workloads):
        if options.out_of_time:
            print(f"{workload.name}: no time left")
            break
        sources = _sources(workload)
        for source in sources:
            _make(source, options)
        result = _measure(workload, options)
        results.append(result)
        _write(results, options)
        _print(result)
        if not options.tiny:
            # Full-size weights of all models together are more than many a disk holds.
            needed = {source for later in workloads[index + 1 :] for source in _sources(later)}
            for source in sources - needed:
                shutil.rmtree(options.models_dir / source)
    return results


def _sources(workload: Workload) -> set[str]:
    model = workload.model(catalog())
    return {model.source} | ({model.unet.source} if model.unet else set())


def _make(source: str, options: Options) -> None:
    if options.tiny:
        tiny.build(options.models_dir)
        return
    started = time.monotonic()
    full_size.write(options.models_dir, source, options.device)
    _free()
    print(f"{source}: random weights in {time.monotonic() - started:.0f} s", flush=True)


def _measure(workload: Workload, options: Options) -> Result:
    model, request = workload.model(catalog()), workload.request(catalog())
    result = Result(workload.name, model.id, workload.side, request.num_steps)
    if torch.cuda.is_available() and "H200" in torch.cuda.get_device_name():
        result.h200_floor = workload.h200_floor
    result.plain = _plain_rate(workload, options)
    _free()
    _measure_engine(workload, result, options)
    # The farm's worker is a process of its own, and needs the memory.
    _free()
    if options.with_farm and result.engine and not options.out_of_time:
        _measure_farm(workload, result, options)
    return result


def _measure_farm(workload: Workload, result: Result, options: Options) -> None:
    limit = workload.model(catalog()).batch_limit
    fewest, most = _FARM_BATCHES
    batches = min(max(round(result.engine[max(result.engine)] * _FARM_S / limit), fewest), most)
    try:
        result.farm = images_per_second_through_farm(workload.job(catalog()), options.models_dir, jobs=batches * limit)
    except (FarmError, ClientError, ThroughputError) as error:
        # What was measured before is worth more than a clean end.
        print(f"{workload.name}: not measured through the farm: {error}", file=sys.stderr)


def _plain_rate(workload: Workload, options: Options) -> float:
    dtype = torch.float32 if options.device == "cpu" else getattr(torch, workload.model(catalog()).dtype)
    plain = workload.plain(catalog(), options.models_dir, options.device, dtype)
    return _rate(1, lambda: plain(torch.Generator("cpu").manual_seed(1)), options)


def _measure_engine(workload: Workload, result: Result, options: Options) -> None:
    """Fill in the time to load and the rates by batch size."""
    settings = Settings(models_dir=str(options.models_dir), models_offline=True, text_cache_bytes=0)
    model = replace(workload.model(catalog()), compile=options.compile)
    if options.batches:
        model = replace(model, batch_limit=max(options.batches))
    engine = Engine(Catalog([model]), settings, options.device)
    result.load_s = engine.load(model.id)
    for size in options.batches or _batch_sizes(model.batch_limit):
        if options.out_of_time:
            return
        result.engine[size] = _rate(
            size, partial(engine.render, model, workload.items(catalog(), size), _go_on), options
        )

    items = workload.items(catalog(), model.batch_limit)
    result.batch_difference = _difference(engine.render(model, items, _go_on), engine.render(model, items[-1:], _go_on))


def _difference(batch: Rendered, single: Rendered) -> float:
    """Of the last picture of a batch from the same one alone, in levels of 255."""
    pictures = [
        torch.frombuffer(bytearray(rendered.images[-1].tobytes()), dtype=torch.uint8) for rendered in (batch, single)
    ]
    return float((pictures[0].int() - pictures[1].int()).abs().max())


def _batch_sizes(limit: int) -> list[int]:
    """Powers of two up to the limit, and the limit."""
    return sorted({size for power in range(limit.bit_length()) if (size := 2**power) <= limit} | {limit})


def _go_on(step: int, total: int) -> bool:  # noqa: ARG001
    return False


def _rate(images: int, render: Callable[[], object], options: Options) -> float:
    """Images per second, after one call that is not counted: it compiles, tunes and allocates."""
    render()
    calls = 0
    started = time.perf_counter()
    while not calls or time.perf_counter() - started < options.measure_s:
        render()
        calls += 1
    return images * calls / (time.perf_counter() - started)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _write(results: Sequence[Result], options: Options) -> None:
    device = torch.cuda.get_device_name() if options.device.startswith("cuda") else platform.processor() or "cpu"
    document = {
        "device": device,
        "checkpoints": "tiny" if options.tiny else "full size, random weights",
        "torch": torch.__version__,
        "compile": options.compile,
        "results": [asdict(result) for result in results],
    }
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(document, indent=2) + "\n")


def _print(result: Result) -> None:
    print(f"\n{result.workload}: {result.model}, {result.side}×{result.side}, {result.num_steps} steps")
    assert result.plain is not None
    assert result.load_s is not None
    print(f"  loaded in {result.load_s:.1f} s")
    rows = [("diffusers alone, one at a time", result.plain)]
    rows += [(f"engine, batches of {size}", rate) for size, rate in result.engine.items()]
    if result.farm is not None:
        rows.append((f"farm, batches of up to {max(result.engine)}", result.farm))
    for name, rate in rows:
        limit = f"{rate / result.h200_floor:7.0%} of what the card could" if result.h200_floor else ""
        print(f"  {name:<32}{rate:9.3f} images/s {rate / result.plain:7.2f} × plain{limit}")
    if result.batch_difference is not None:
        print(f"  a picture of a batch differs from the same alone by at most {result.batch_difference:.0f} of 255")
    if result.farm is not None:
        print(f"  the farm renders {result.farm / result.engine[max(result.engine)]:.1%} of what its engine does alone")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description="Images per second on this device.")
    parser.add_argument("--device", default="cuda", help="torch's name of the device (default: cuda)")
    parser.add_argument("--tiny", action="store_true", help="tiny checkpoints and 256×256 pictures")
    parser.add_argument("--only", help="comma-separated workloads: " + ", ".join(work.name for work in FULL))
    parser.add_argument("--batches", help="comma-separated batch sizes (default: powers of two to the model's limit)")
    parser.add_argument("--seconds", type=float, default=_MEASURE_S, help="how long each rate is measured")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds after which nothing new is begun")
    parser.add_argument(
        "--compile", type=Compile, choices=list(Compile), default=Compile.OFF, help="what the bare engine compiles"
    )
    parser.add_argument("--no-farm", action="store_true", help="leave the farm out")
    parser.add_argument("--models-dir", type=Path, help="where checkpoints are made (default: a temporary folder)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file to write")
    given = parser.parse_args(arguments)

    workloads = TINY if given.tiny else FULL
    if given.only:
        names = given.only.split(",")
        workloads = tuple(workload for workload in workloads if workload.name in names)
        if len(workloads) != len(set(names)):
            parser.error(f"--only: there are {', '.join(work.name for work in FULL)}")
    with tempfile.TemporaryDirectory(prefix="rendermill-bench-") as scratch:
        options = Options(
            device=given.device,
            tiny=given.tiny,
            models_dir=given.models_dir or Path(scratch),
            batches=tuple(int(size) for size in given.batches.split(",")) if given.batches else (),
            measure_s=given.seconds,
            compile=given.compile,
            deadline=time.monotonic() + given.budget,
            with_farm=not given.no_farm,
            results=given.results,
        )
        run(workloads, options)


if __name__ == "__main__":
    main()

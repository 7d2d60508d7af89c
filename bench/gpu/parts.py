"""What is measured of a workload, part by part. A part that fails says so in its figure; the next one begins.

Pictures and rate of the plain engine are kept in files, for options and the farm may be measured by another process.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import full_size
from bench.farm_throughput import images_per_second_through_farm
from bench.gpu import ceilings
from bench.gpu.figures import DEVICE, Figure
from bench.gpu.flops import cost_of
from bench.gpu.options import OPTIONS, Option, torch_settings
from bench.workloads import Workload
from shared.acceleration import Compile
from shared.catalog import Catalog, catalog
from shared.models import Model
from shared.settings import Settings
from worker.engine import Engine, Item, tiny

#: A farm is measured over about this many seconds of work, but over so many batches at least and at most.
_FARM_S, _FARM_BATCHES = 12.0, (3, 10)


@dataclass(frozen=True, slots=True)
class Bench:
    """One workload on one device."""

    workload: Workload
    device: str
    tiny: bool
    models_dir: Path
    #: Batch sizes of the plain engine; powers of two to the catalog's limit where there are none. The limit always.
    batches: tuple[int, ...]
    #: How long each rate is measured, in seconds, after a first call that is not counted.
    measure_s: float
    note: Callable[[Figure], None]

    @property
    def model(self) -> Model:
        return self.workload.model(catalog())

    @property
    def sizes(self) -> list[int]:
        limit = self.model.batch_limit
        powers = (2**power for power in range(limit.bit_length()))
        return sorted({*(self.batches or powers), limit})

    def figure(self, part: str, name: str, value: float | None, unit: str = "images/s", note: str = "") -> None:
        self.note(Figure(self.workload.name, part, name, value, unit, note))

    def rate(self, images: int, render: Callable[[], object]) -> float:
        """Images per second, after one call that is not counted: it compiles, tunes and allocates."""
        render()
        calls, began = 0, time.perf_counter()
        while not calls or time.perf_counter() - began < self.measure_s:
            render()
            calls += 1
        return images * calls / (time.perf_counter() - began)

    @property
    def kept_pictures(self) -> Path:
        """Pictures of a full batch of the plain engine."""
        return self.models_dir / f"{self.workload.name}.npy"

    @property
    def kept_rate(self) -> Path:
        """Images per second of the plain engine at a full batch."""
        return self.models_dir / f"{self.workload.name}.rate"


@dataclass(frozen=True, slots=True)
class Part:
    measure: Callable[[Bench], None]
    #: Seconds after which it is given up, at full size.
    limit_s: float


def measure_device(bench: Bench) -> None:
    """Ceilings of the device itself, a figure each, with what cannot be done."""
    device, seconds = torch.device(bench.device), min(bench.measure_s, 1.0)
    # As the engine computes there.
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    rates: Mapping[str, tuple[Callable[[], float], float, str]] = {
        "matmul": (partial(ceilings.matmul_flops, device, dtype, seconds), 1e12, "TFLOP/s"),
        "float8 matmul": (partial(ceilings.float8_flops, device, seconds), 1e12, "TFLOP/s"),
        "copy": (partial(ceilings.copied_bytes, device, seconds), 1e9, "GB/s"),
    }
    for name, (rate, scale, unit) in rates.items():
        try:
            bench.note(Figure(DEVICE, "ceilings", name, rate() / scale, unit))
        except RuntimeError as error:
            bench.note(Figure(DEVICE, "ceilings", name, None, unit, str(error)[:300]))


def _checkpoints(bench: Bench) -> None:
    began = time.monotonic()
    if bench.tiny:
        tiny.build(bench.models_dir)
    else:
        for source in sorted(bench.workload.sources(catalog())):
            full_size.write(bench.models_dir, source, bench.device)
    bench.figure("checkpoints", "random weights made and written", time.monotonic() - began, "s")


def _flops(bench: Bench) -> None:
    cost = cost_of(bench.model, bench.workload.request(catalog()), tiny=bench.tiny)
    for name, value in asdict(cost).items():
        is_count = name == "evaluations"
        unit = "" if is_count else "GB" if name.endswith("_bytes") else "TFLOP"
        bench.figure("flops", name, value if is_count else value / (1e9 if unit == "GB" else 1e12), unit)
    bench.figure("flops", "total", cost.total / 1e12, "TFLOP")


def _plain(bench: Bench) -> None:
    dtype = torch.float32 if bench.device == "cpu" else getattr(torch, bench.model.dtype)
    plain = bench.workload.plain(catalog(), bench.models_dir, bench.device, dtype)
    rate = bench.rate(1, lambda: plain(torch.Generator("cpu").manual_seed(1)))
    bench.figure("plain", "diffusers alone, one at a time", rate)


def _engine(bench: Bench) -> None:
    with _rendering(bench, bench.model) as (render, load_s):
        bench.figure("engine", "loaded", load_s, "s")
        for size in bench.sizes:
            items = bench.workload.items(catalog(), size)
            rate = bench.rate(size, partial(render, items))
            bench.figure("engine", f"batches of {size}", rate)
        bench.kept_rate.write_text(str(rate))
        items = bench.workload.items(catalog(), bench.model.batch_limit)
        together, alone = render(items), render(items[-1:])
        np.save(bench.kept_pictures, together)
        _compare(bench, "engine", "a picture of a batch beside the same alone", together[-1:], alone)


def _option(bench: Bench, name: str, option: Option) -> None:
    limit = bench.model.batch_limit
    try:
        model = option.model(bench.model)
    except ValueError as refusal:
        bench.figure(name, "not measured", None, "", str(refusal))
        return
    compiled = option.changes.get("compile", Compile.OFF) is not Compile.OFF
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with torch_settings(option.settings), _rendering(bench, model) as (render, load_s):
        bench.figure(name, "loaded, and compiled for two shapes" if compiled else "loaded", load_s, "s")
        items = bench.workload.items(catalog(), limit)
        bench.figure(name, f"batches of {limit}", bench.rate(limit, partial(render, items)))
        bench.figure(name, "batches of 1", bench.rate(1, partial(render, items[:1])))
        together, alone = render(items), render(items[-1:])
        _compare(bench, name, "a picture of a batch beside the same alone", together[-1:], alone)
        if bench.kept_pictures.exists():
            _compare(bench, name, "pictures beside those of the plain engine", together, np.load(bench.kept_pictures))
    if compiled:
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        # Without any, what could not be compiled ran as it is, and the rate is that of the plain engine.
        bench.figure(name, "graphs compiled", graphs, "", "" if graphs else "nothing was compiled: see the log")


def _farm(bench: Bench) -> None:
    limit = bench.model.batch_limit
    fewest, most = (1, 1) if bench.tiny else _FARM_BATCHES
    batches = min(max(round(_FARM_S * float(bench.kept_rate.read_text()) / limit), fewest), most)
    rate = images_per_second_through_farm(bench.workload.job(catalog()), bench.models_dir, jobs=batches * limit)
    # The farm's batches are the catalog's, whatever sizes the bare engine was measured at.
    bench.figure("farm", f"batches of up to {limit}", rate)


Render = Callable[[Sequence[Item]], Any]


@contextmanager
def _rendering(bench: Bench, model: Model) -> Iterator[tuple[Render, float]]:
    """A loaded engine's way to pictures, as one array, and the seconds it took to load.

    It loads in this thread and renders in another, as in a worker.
    """
    settings = Settings(models_dir=str(bench.models_dir), models_offline=True, text_cache_bytes=0)
    model = replace(model, size=replace(model.size, default=bench.workload.side))
    engine = Engine(Catalog([model]), settings, bench.device)
    load_s = engine.load(model.id)

    def render(items: Sequence[Item]) -> Any:
        rendered = engine.render(model, items, lambda *_: False)
        return np.stack([np.asarray(image) for image in rendered.images])

    with ThreadPoolExecutor(1) as thread:
        yield lambda items: thread.submit(render, items).result(), load_s


def free() -> None:
    """Give back what no part needs any more, so that the next one, or a farm's worker, has room."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _compare(bench: Bench, part: str, name: str, ours: Any, theirs: Any) -> None:
    """How far pictures are apart, in levels of 255; beside their contrast, for random weights make pale ones."""
    difference = np.abs(ours.astype(float) - theirs.astype(float))
    contrast = float(theirs.astype(float).std())
    share = f"on average {difference.mean():.2f}, of a contrast of {contrast:.1f}"
    bench.figure(part, name, float(difference.max()), "levels of 255 at most", share)


#: In the order in which they are measured, but for the device's.
PARTS: Mapping[str, Part] = {
    "checkpoints": Part(_checkpoints, 180),
    "flops": Part(_flops, 90),
    "plain": Part(_plain, 90),
    "engine": Part(_engine, 120),
    "compile regional": Part(partial(_option, name="compile regional", option=OPTIONS["compile regional"]), 150),
    "farm": Part(_farm, 180),
    **{
        name: Part(partial(_option, name=name, option=option), option.limit_s)
        for name, option in OPTIONS.items()
        if name != "compile regional"
    },
}

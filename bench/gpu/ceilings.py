"""What the device does at best: large products of matrices, and copies. No card reaches its data sheet."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional
from torch.nn.functional import ScalingType

#: Of square matrices; the best counts. Large ones keep every multiplier busy, and heat the card.
_SIDES = {"cuda": (8192, 16384), "cpu": (512,)}
_COPIED_BYTES = {"cuda": 2**31, "cpu": 2**26}
_FLOAT8 = torch.float8_e4m3fn


@dataclass(frozen=True, slots=True)
class Measured:
    """Work per second, by repeating it for a while after a first time that is not counted."""

    device: torch.device
    seconds: float

    def rate(self, work: float, action: Callable[[], object]) -> float:
        action()
        self._wait()
        calls, began = 0, time.perf_counter()
        while not calls or time.perf_counter() - began < self.seconds:
            # Several at once, so that the device never waits for Python.
            for _ in range(4):
                action()
            self._wait()
            calls += 4
        return work * calls / (time.perf_counter() - began)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def matmul_flops(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """FLOP/s of products of square matrices in `dtype`."""

    def best(side: int) -> float:
        one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(one)
        return Measured(device, seconds).rate(2 * side**3, lambda: torch.mm(one, other, out=out))

    return max(best(side) for side in _SIDES[device.type])


def float8_flops(device: torch.device, seconds: float) -> float:
    """FLOP/s of products of float8 matrices, with a scale for each row. Raises where the device has none."""

    def best(side: int) -> float:
        one, other = (torch.randn(side, side, device=device).to(_FLOAT8) for _ in range(2))
        rows, columns = torch.ones(side, 1, device=device), torch.ones(1, side, device=device)

        def multiply() -> torch.Tensor:
            by_row = ScalingType.RowWise
            return functional.scaled_mm(one, other.t(), rows, by_row, columns, by_row, use_fast_accum=True)

        return Measured(device, seconds).rate(2 * side**3, multiply)

    return max(best(side) for side in _SIDES[device.type])


def copied_bytes(device: torch.device, seconds: float) -> float:
    """Bytes per second that are read and written by a copy on the device."""
    source = torch.empty(_COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Measured(device, seconds).rate(2 * source.nbytes, lambda: target.copy_(source))

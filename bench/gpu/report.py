"""Figures as lines to read and to paste, each beside what it is a share of, and as a file for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.gpu.figures import DEVICE, Figure
from bench.gpu.flops import Cost


@dataclass(slots=True)
class Report:
    """Every figure so far. Each new one is printed and the file written anew."""

    path: Path
    #: What was measured, and with what.
    about: dict[str, Any]
    figures: list[Figure] = field(default_factory=list)

    def note(self, figure: Figure) -> None:
        self.figures.append(figure)
        print(self.line(figure), flush=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        document = {**self.about, "figures": [asdict(one) | self._shares(one) for one in self.figures]}
        self.path.write_text(json.dumps(document, indent=2) + "\n")

    def line(self, figure: Figure) -> str:
        """One figure, with its shares of others."""
        label = f"{figure.workload}: {figure.part}: {figure.name}"
        if figure.value is None:
            return f"{label:<68} — {figure.note}"
        shares = "".join(f"  {share:.2f} × {name}" for name, share in self._shares(figure).items())
        note = f"  ({figure.note})" if figure.note else ""
        return f"{label:<68} {figure.value:12,.3f} {figure.unit}{shares}{note}"

    def _shares(self, figure: Figure) -> dict[str, float]:
        """A rate as a share of diffusers alone, of the plain engine at the same batch size, and of the floor."""
        if figure.value is None or figure.unit != "images/s":
            return {}
        size = int(figure.name.rpartition(" ")[2]) if figure.name.startswith("batches of ") else 1
        known = {
            "plain": self._value(figure.workload, "plain", "diffusers alone, one at a time"),
            "engine": self._value(figure.workload, "engine", f"batches of {size}"),
            "floor": self._floor(figure.workload, size),
            "float8 floor": self._floor(figure.workload, size, in_float8=True) if "fp8" in figure.part else None,
        }
        if figure.part in ("plain", "engine"):
            del known["engine"]
        if figure.part == "plain":
            del known["plain"]
        return {name: figure.value / value for name, value in known.items() if value}

    def _floor(self, workload: str, batch: int, *, in_float8: bool = False) -> float | None:
        """Images per second that the device could render at most, by its own measured ceilings."""
        flops, float8, copied = (self._value(DEVICE, "ceilings", name) for name in ("matmul", "float8 matmul", "copy"))
        counted = {name: self._value(workload, "flops", name) for name in Cost.__dataclass_fields__}
        if not flops or not copied or None in counted.values() or (in_float8 and not float8):
            return None
        scaled = {
            name: value if name == "evaluations" else value * (1e9 if name.endswith("_bytes") else 1e12)
            for name, value in counted.items()
            if value is not None
        }
        scaled["evaluations"] = int(scaled["evaluations"])
        cost = Cost(**scaled)  # type: ignore[arg-type]
        rate = float8 * 1e12 if in_float8 and float8 else None
        return 1 / cost.floor_s(batch, flops * 1e12, copied * 1e9, rate)

    def _value(self, workload: str, part: str, name: str) -> float | None:
        found = (one for one in self.figures if (one.workload, one.part, one.name) == (workload, part, name))
        return next((one.value for one in found), None)

    def summary(self) -> list[str]:
        """The floors, and the rates again, together."""
        lines = []
        for workload in dict.fromkeys(one.workload for one in self.figures if one.workload != DEVICE):
            floor = self._floor(workload, 1)
            lines.append(
                f"{workload}" + (f": at most {floor:.2f} images/s one at a time, by its FLOPs" if floor else "")
            )
            rates = [one for one in self.figures if one.workload == workload and one.unit == "images/s"]
            lines += [f"  {self.line(one)}" for one in rates]
        return lines

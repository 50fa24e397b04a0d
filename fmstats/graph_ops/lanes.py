"""This module writes what a kernel of Triton does to measure a tensor, as lines of its source.

Each thread keeps a few numbers, the lanes, of the elements that it has met. NVIDIA and AMD compile
the lines, and Triton's interpreter runs them.

The instructions of an element decide what it costs, so there are as few as can be. A condition
takes the mask of a tile along for nothing, where a mask of each lane would be an instruction. An
element that is not finite is NaN to the minimum and the maximum, which are one instruction each
where NaN need not get through.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from fmstats.graph_ops.parts import EXTREMES, SUMS, count_names
from fmstats.statistic.fields import MODES
from fmstats.statistic.packing import Packing
from fmstats.statistic.thresholds import Thresholds

# Of the finite float32 numbers; the second is the first above 0.
_LARGEST, _TINIEST = torch.finfo(torch.float32).max, 2.0**-149


@dataclass(frozen=True)
class Lanes:
    """Lanes are the numbers that a thread keeps of one tensor.

    Attributes:
        prefix: of their names.
        thresholds: what counts as zero and as saturated.
        packing: of the counts, which float32 adds fastest.
    """

    prefix: str
    thresholds: Thresholds
    packing: Packing

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the lanes."""
        counts = count_names(self.thresholds.mode)
        return tuple(f"{self.prefix}_{name}" for name in (*counts, *SUMS, *EXTREMES))

    def begin(self, size: str) -> Iterator[str]:
        """Return the lines that make the lanes.

        Args:
            size: of a tile, such as "[XBLOCK, R0_BLOCK]".
        """
        starts = {name: ("0.0", "float32") for name in count_names(self.thresholds.mode)}
        starts |= {name: ("0.0", "float64") for name in SUMS}
        starts |= {"min": (_number(math.inf), "float32"), "max": (_number(-math.inf), "float32")}
        for name, (start, dtype) in starts.items():
            yield f"{self.prefix}_{name} = tl.full({size}, {start}, tl.{dtype})"

    def add(self, x: str, mask: str) -> Iterator[str]:
        """Return the lines that add the elements of a tile.

        Args:
            x: their name; they are float32.
            mask: which of them there are; "" if all.
        """
        p = self.prefix
        if mask:  # NaN meets no condition but its own
            yield f"{p}_here = tl.where({mask}, {x}, {_number(math.nan)})"
        here = f"{p}_here" if mask else x
        conditions = _conditions(here, self.thresholds)
        conditions["nan"] = f"({x} != {x}) & {mask}" if mask else f"{x} != {x}"
        for name in count_names(self.thresholds.mode):
            yield f"{p}_{name} += tl.where({conditions[name]}, 1.0, 0.0)"
        yield f"{p}_finite = tl.abs({here}) < {_number(math.inf)}"
        yield f"{p}_number = tl.where({p}_finite, {here}, 0.0).to(tl.float64)"
        yield f"{p}_sum += {p}_number"
        yield f"{p}_sum_sq = tl.fma({p}_number, {p}_number, {p}_sum_sq)"
        yield f"{p}_known = tl.where({p}_finite, {here}, {_number(math.nan)})"
        yield f"{p}_min = tl.minimum({p}_min, {p}_known)"
        yield f"{p}_max = tl.maximum({p}_max, {p}_known)"

    def end(self, dim: int) -> dict[str, str]:
        """Return the expressions of the partials, by their names.

        Args:
            dim: of a tile, that is reduced and left out.
        """
        ended = {}
        for names in self.packing.groups(self.thresholds.mode):
            packed = (
                f"{self.prefix}_{name}" + (f" * {1 << self.packing.bits * i}" if i else "")
                for i, name in enumerate(names)
            )
            ended["+".join(names)] = f"tl.sum({' + '.join(packed)}, {dim})"
        ended |= {name: f"tl.sum({self.prefix}_{name}, {dim})" for name in SUMS}
        return ended | {name: f"tl.{name}({self.prefix}_{name}, {dim})" for name in EXTREMES}


def why_not() -> str | None:
    """Tell why these lines do not measure all fields that there are; None if they do."""
    known = {"nan", *_conditions("x", Thresholds()), "sum", "sum_sq", "min", "max"}
    unknown = sorted({*count_names(MODES[-1]), *SUMS, *EXTREMES} - known)
    return f"kernels of Inductor do not measure {', '.join(unknown)}" if unknown else None


def _conditions(x: str, thresholds: Thresholds) -> dict[str, str]:
    """Return what an element must be to count, by the name of the count, but for NaN.

    It is compared with numbers that bfloat16 and float16 do not have. With others Triton's compiler
    compares two elements at once as they were stored, and then takes the results apart.
    """
    tol, low, high = thresholds.compared_as(torch.float32)
    return {
        "pos_inf": f"{x} > {_number(_LARGEST)}",
        "neg_inf": f"{x} < {_number(-_LARGEST)}",
        "zeros": f"tl.abs({x}) <= {_number(tol)}" if tol else f"tl.abs({x}) < {_number(_TINIEST)}",
        # Without a bound nothing meets it.
        "sat_low": f"{x} < {x}" if math.isnan(low) else f"{x} <= {_number(low)}",
        "sat_high": f"{x} < {x}" if math.isnan(high) else f"{x} >= {_number(high)}",
    }


def _number(value: float) -> str:
    return f'float("{value!r}")'

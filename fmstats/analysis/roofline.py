"""Place layers on the roofline: bound by arithmetic or by memory (Williams 2009).

Peaks are those of the makers' data sheets, dense (no sparsity), matrix units included.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from fmstats.errors import FmstatsError, list_closest


@dataclass(frozen=True)
class Gpu:
    """Holds the peak rates of a GPU.

    Attributes:
        bandwidth: bytes a second from its memory.
        float32: FLOP/s in float32, as PyTorch runs it by default (no TF32).
        half: FLOP/s in float16 and bfloat16.
        float8: FLOP/s in 8-bit floats, None if it has none.
    """

    bandwidth: float
    float32: float
    half: float
    float8: float | None = None

    def peak(self, dtype: torch.dtype) -> float:
        """Return the peak FLOP/s in a dtype; float64 and unknown dtypes count as float32."""
        if dtype in (torch.float16, torch.bfloat16):
            return self.half
        if dtype.itemsize == 1 and dtype.is_floating_point and self.float8 is not None:
            return self.float8
        return self.float32

    def bound(self, flops: int, traffic: int, dtype: torch.dtype) -> str | None:
        """Return what bounds the work, "compute" or "memory"; None for no work at all."""
        if not flops and not traffic:
            return None
        return "compute" if flops / self.peak(dtype) > traffic / self.bandwidth else "memory"


GPUS = {
    "T4": Gpu(320e9, 8.1e12, 65e12),
    "V100": Gpu(900e9, 15.7e12, 125e12),
    "A10": Gpu(600e9, 31.2e12, 125e12),
    "A100": Gpu(2039e9, 19.5e12, 312e12),
    "L4": Gpu(300e9, 30.3e12, 121e12, 242e12),
    "L40S": Gpu(864e9, 91.6e12, 362e12, 733e12),
    "RTX 3090": Gpu(936e9, 35.6e12, 71e12),
    "RTX 4090": Gpu(1008e9, 82.6e12, 165e12, 330e12),
    "H100": Gpu(3350e9, 66.9e12, 989e12, 1979e12),
    "H200": Gpu(4800e9, 66.9e12, 989e12, 1979e12),
    "B200": Gpu(8000e9, 75e12, 2250e12, 4500e12),
    "MI300X": Gpu(5300e9, 163.4e12, 1307e12, 2615e12),
}


def find_gpu(name: str) -> Gpu:
    """Return the GPU of that name; case and what follows the name (SXM, 80GB) do not matter.

    Raises:
        FmstatsError: it is not in the table.
    """
    asked = name.lower().replace(" ", "").replace("nvidia", "").replace("-", "")
    fits = [
        known
        for known in GPUS
        if re.match(re.escape(known.lower().replace(" ", "")) + r"(?!\d)", asked)
    ]
    if not fits:
        raise FmstatsError(f"gpu={name!r} is not known; closest: {list_closest(name, GPUS)}")
    return GPUS[max(fits, key=len)]

"""`Device` stands for a GPU in use: its context and the kernels loaded into it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fmstats.backends.cuda import driver, nvrtc
from fmstats.backends.cuda.asked import NOTHING, Asked
from fmstats.backends.cuda.runtime import Gpu
from fmstats.backends.cuda.workspace import Workspaces


@dataclass
class Device:
    """A device stands for a GPU in use: its context and its kernels.

    Attributes:
        target: what kernels are compiled to.
        context: the handle of torch's context on it.
        kernels: handles by (name, dtype, mode, asked).
        fold: the native module's way of partials into states, once it is needed.
    """

    gpu: Gpu
    target: str
    context: int
    workspaces: Workspaces
    kernels: dict[tuple[str, int, int, Asked], int] = field(default_factory=dict)
    fold: Any = None

    def kernel(self, name: str, dtype: int, mode: int, asked: Asked = NOTHING) -> int:
        """Return the handle of a kernel, compiled and loaded if it was not yet."""
        key = (name, dtype, mode, asked)
        if key not in self.kernels:
            code = nvrtc.compile_kernel(name, dtype, mode, self.target, asked)
            self.kernels[key] = driver.load_kernel(code, self.context)
        return self.kernels[key]

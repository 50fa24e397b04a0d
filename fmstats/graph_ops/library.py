"""This module declares the operations that compiled graphs hold.

`observe` measures a tensor of a layer. The memory that it fills is an argument of the graph, so
that a CUDA graph may hold the operation: nothing is allocated in it, and what a replay may not
repeat, such as counting on the host, is done by words on the device.
"""

from __future__ import annotations

from typing import Any

import torch

library: Any = torch.library.Library("fmstats", "FRAGMENT")  # type: ignore[no-untyped-call]

# state: the memory of a `State`; clock: the words of a `Clock`; target: the number of what is
# measured, in this process; channel_dim: of x, -1 where all is one channel; zero_tol, low, high:
# the `Thresholds`, None where there is no bound.
library.define(
    "observe(Tensor x, Tensor(a!) state, Tensor(b!) clock, int target, int channel_dim, "
    "float zero_tol, float? low, float? high) -> ()"
)

"""Generate the code that measures single tensors, for a GPU that is not there: JSON in, JSON out.

python -m fused.single < cases.json      (a list of objects with the fields of `Case`)
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

from fused import fake_gpu  # before torch

# isort: split
import torch
from torch import Tensor

from fmstats.graph_ops import lowering
from fmstats.statistic.clock import WORDS
from fmstats.statistic.fields import FIELDS
from fused.measure import Compiler


@dataclass(frozen=True)
class Case:
    """Describes a tensor, and how it is measured.

    Attributes:
        shape, strides, dtype: of the tensor.
        channel_dim: of it, -1 where all is one channel.
        zero_tol, low, high: thresholds.
        relu: whether it is the output of a ReLU, which the kernel makes, too.
        capability: of the GPU.
    """

    shape: list[int]
    strides: list[int]
    dtype: str
    channel_dim: int
    zero_tol: float = 0.0
    low: float | None = None
    high: float | None = None
    relu: bool = False
    capability: tuple[int, int] = (9, 0)


def generate(case: Case) -> dict[str, object]:
    """Return the code of one case, and why there is none that measures."""
    fake_gpu.PROPERTIES.major, fake_gpu.PROPERTIES.minor = case.capability
    torch._dynamo.reset()
    lowering.reasons.clear()
    compiler = Compiler()
    compiler.install()
    mode = fake_gpu.FakeTensorMode()
    channels = 1 if case.channel_dim == -1 else case.shape[case.channel_dim]
    like = torch.empty_strided(case.shape, case.strides, dtype=getattr(torch, case.dtype))
    state = torch.empty(len(FIELDS) * channels + 1, dtype=torch.int64)
    clock = torch.empty(len(WORDS), dtype=torch.int64)
    x, state, clock = (fake_gpu.fake(tensor, mode) for tensor in (like, state, clock))

    def measured(x: Tensor, state: Tensor, clock: Tensor) -> Tensor:
        y = torch.relu(x) if case.relu else x
        bounds = (case.zero_tol, case.low, case.high)
        torch.ops.fmstats.observe(y, state, clock, 0, case.channel_dim, *bounds)
        return y + 1 if case.relu else x

    with mode, torch.no_grad():
        torch.compile(measured, dynamic=False, fullgraph=True)(x, state, clock)
    return {"codes": compiler.codes, "reason": lowering.reasons.get(0)}


def main() -> None:
    """Print what was generated for the cases that are read."""
    fake_gpu.pretend()
    lowering.when_inductor_comes()
    print(json.dumps([generate(Case(**case)) for case in json.load(sys.stdin)]))


if __name__ == "__main__":
    main()

"""Kernels that Inductor makes hold the partials that PyTorch's operations give.

They are generated for a GPU that is not there. Triton's interpreter runs them, and the project's
runs their PTX.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from fused import guard
from fused.compiled import run
from torch import Tensor

import fmstats.graph_ops.partials  # noqa: F401  # the operation
from fmstats.backends.reference import ReferenceBackend
from fmstats.graph_ops.parts import count_names
from fmstats.graph_ops.planes import planes_of
from fmstats.statistic.partials import add_planes, split
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of

DTYPES = ("float32", "bfloat16", "float16")
TRITON = tuple(map(int, version("triton").split(".")[:2]))


@dataclass(frozen=True)
class Measured:
    """A tensor to be measured: `fused.single.Case` says the rest."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    channel_dim: int = 1
    last: bool = False
    relu: bool = False
    bounds: dict[str, float] = field(default_factory=dict)

    def tensor(self) -> Tensor:
        """Channels of different means and spreads, and what else there is in a tensor."""
        generator = torch.Generator().manual_seed(len(self.name))
        x = torch.randn(self.shape, generator=generator, dtype=torch.float64)
        channels = 1 if self.channel_dim == -1 else self.shape[self.channel_dim]
        ratio = torch.tensor([0.0, 1.0, -30.0, 1e3])[torch.arange(channels) % 4].double()
        along = [1] * len(self.shape)
        if self.channel_dim != -1:
            along[self.channel_dim] = channels
        x = (x + ratio.view(along)).to(getattr(torch, self.dtype))
        flat = x.view(-1)
        # The interpreter takes subnormal numbers of bfloat16 for zeros.
        tiny = 1.0 if self.dtype == "bfloat16" else 1e-40
        special = [math.nan, math.inf, -math.inf, 0.0, -0.0, tiny, math.nan, 3.0, 4.0]
        flat[: len(special)] = torch.tensor(special, dtype=torch.float64).to(x.dtype)
        if channels > 2:
            x.select(self.channel_dim, 1).fill_(math.nan)  # nothing finite
            x.select(self.channel_dim, 2).fill_(2.5)  # a constant
        return x.contiguous(memory_format=torch.channels_last) if self.last else x

    @property
    def case(self) -> dict[str, Any]:
        x = self.tensor()
        of_single = ("shape", "dtype", "channel_dim", "relu")
        fields = {name: value for name, value in asdict(self).items() if name in of_single}
        return {**fields, "strides": x.stride(), **self.bounds}


ALL = {"zero_tol": 0.01, "low": -29.0, "high": 3.0}
CASES = [
    Measured("planes", (3, 8, 5, 7), "float32"),
    *(Measured(f"{d} channels last", (3, 8, 5, 7), d, last=True) for d in DTYPES),
    Measured("tokens", (4, 33, 24), "bfloat16", channel_dim=2),
    Measured("tile divides planes", (2, 8, 8, 8), "bfloat16", last=True),
    Measured("long rows", (2, 3, 40, 40), "float16"),
    Measured("small planes", (12, 8, 3, 3), "float32"),
    Measured("rows of a matrix", (33, 40), "float32"),
    Measured("no batch", (24, 50), "float32", channel_dim=0),
    Measured("one channel", (6, 70), "float32", channel_dim=-1),
    Measured("after a ReLU", (3, 8, 5, 7), "float32", last=True, relu=True),
    Measured("all bounds", (3, 8, 5, 7), "float32", bounds=ALL),
    Measured("an upper bound", (3, 8, 5, 7), "bfloat16", bounds={"high": 3.0}),
]


def measured_tensor(case: Measured) -> Tensor:
    return case.tensor().relu() if case.relu else case.tensor()


def eager(case: Measured) -> Tensor:
    bounds = [case.bounds.get(name, default) for name, default in BOUNDS.items()]
    (partials,) = torch.ops.fmstats.partials(measured_tensor(case), case.channel_dim, *bounds)
    return partials


BOUNDS = {"zero_tol": 0.0, "low": None, "high": None}


def parts_of(case: Measured, partials: Tensor) -> dict[str, Tensor]:
    thresholds = Thresholds(**{**BOUNDS, **case.bounds})
    return split(partials, thresholds.mode, planes_of(case.shape, case.channel_dim).packing)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the code of each case, and its inputs."""
    if guard.why_not() is not None:
        pytest.skip(str(guard.why_not()))
    made = json.loads(run("fused.single", text=json.dumps([case.case for case in CASES])))
    assert [of["reason"] for of in made] == [None] * len(CASES)
    jobs = []
    for case, of in zip(CASES, made, strict=True):
        (code,) = of["codes"]
        jobs.append((code, inputs_of(code, case.tensor())))
    file = tmp_path_factory.mktemp("fused") / "cases.pt"
    torch.save(jobs, file)
    return file


HERE = Path(__file__).parent
PATH = os.pathsep.join(map(str, (HERE, HERE.parent / "benchmarks", HERE.parent)))
RUNNERS = {
    "as Triton": ("fused.interpreter", {"TRITON_INTERPRET": "1"}),
    "as PTX": ("fused_ptx_host", {"PYTHONPATH": PATH}),
}


@pytest.fixture(scope="module", params=RUNNERS)
def generated(request: pytest.FixtureRequest, cases: Path) -> dict[str, Tensor]:
    """The partials of each case by the kernels that were generated for it."""
    module, environment = RUNNERS[request.param]
    if module == "fused.interpreter" and TRITON < (3, 8):
        pytest.skip("older interpreters of Triton take NaN along in tl.minimum, unlike kernels")
    parts = cases.with_name(f"{module}.pt")
    run(module, str(cases), str(parts), **environment)
    return {case.name: of for case, (of,) in zip(CASES, torch.load(parts), strict=True)}


def inputs_of(code: str, x: Tensor) -> list[Tensor]:
    """The tensor, the state and the clock in the order in which the code takes them."""
    taken = [line for line in code.splitlines() if "rand_strided((" in line]
    sizes = [int(size) for size in re.findall(r"rand_strided\(\((\d+)", "\n".join(taken))]
    return [
        torch.zeros(size, dtype=torch.int64) if "torch.int64" in line else x
        for line, size in zip(taken, sizes, strict=True)
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_kernels_make_the_partials(case: Measured, generated: dict[str, Tensor]) -> None:
    assert generated[case.name].shape == eager(case).shape
    wanted = parts_of(case, eager(case))
    for name, got in parts_of(case, generated[case.name]).items():
        want = wanted[name]
        if name in ("sum", "sum_sq"):
            # Added up in another order: within the rounding of as many additions.
            allowed = case.tensor().numel() * 2.0**-53 * absolute(case, name)
            assert ((got - want).abs().double() <= allowed).all(), name
        else:
            assert torch.equal(got, want), (name, got, want)


def absolute(case: Measured, name: str) -> Tensor:
    """The sum of the sizes of what is summed, of each plane and channel."""
    x = measured_tensor(case).double()
    x = torch.where(x.isfinite(), x, 0.0)
    power = 1 if name == "sum" else 2
    x = (x.abs() ** power).float()  # float64 is rounded to float32
    (partials,) = torch.ops.fmstats.partials(x, case.channel_dim, 0, None, None)
    return split(partials, "plain", planes_of(case.shape, case.channel_dim).packing)["sum"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_partials_are_of_the_tensor(case: Measured) -> None:
    x = measured_tensor(case)
    view = view_of(x, None if case.channel_dim == -1 else case.channel_dim)
    want = State.identity(view.channels)
    thresholds = Thresholds(**{**BOUNDS, **case.bounds})
    ReferenceBackend().accumulate(want, x, view, thresholds)
    packing = planes_of(case.shape, case.channel_dim).packing
    part = add_planes(parts_of(case, eager(case)), packing)
    for name in (*count_names(thresholds.mode), "min", "max"):
        assert torch.equal(part[name], want[name]), name
    some = want.finite > 0
    n = want.finite.clamp(min=1).double()
    total, squares = part["sum"], part["sum_sq"]
    mean = torch.where(some, total / n, 0.0)
    m2 = squares - total * (total / n)
    deviation = (want["m2"] / n).sqrt()
    constant = want["min"] == want["max"]
    near = (mean - want["mean"]).abs() <= 1e-6 * deviation
    assert (near | constant).all(), (mean, want["mean"])
    assert ((m2 - want["m2"]).abs() <= 1e-6 * want["m2"])[~constant].all(), (m2, want["m2"])

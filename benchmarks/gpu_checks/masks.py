"""Are tensors whose positions are in groups measured as by the reference, and what do masks cost?

Numbers of groups are by position or by sample; the second of two batches goes the way that hooks
take. Times are those of kernels alone, several launches between two events.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fmstats.backends import Backend
from fmstats.backends.reference import ReferenceBackend
from fmstats.statistic.clock import Clock
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import grouped_view_of, view_of
from gpu_checks.parity import dtypes_of, samples, tolerances
from gpu_checks.report import Report, Setup

GROUPS = 3
SHAPES = ((3, 5, 7), (5, 9, 7, 7), (4, 70, 14, 14), (16, 24, 28, 28))
TOKENS = (32, 128, 768)
_LAUNCHES = 20


def numbers_of(x: Tensor, channel_dim: int, by_sample: bool) -> Tensor:
    """Return the group of each position, or of each sample; 0 for some."""
    sizes = [1 if dim == channel_dim else size for dim, size in enumerate(x.shape)]
    if by_sample:
        sizes = [size if dim == 0 else 1 for dim, size in enumerate(sizes)]
    return torch.randint(0, GROUPS + 1, sizes, dtype=torch.uint8)


def state_of(backend: Backend, x: Tensor, channel_dim: int, numbers: Tensor) -> tuple[State, bool]:
    """Return the state of a tensor that comes twice, and whether the second went the fast way."""
    view, positions = grouped_view_of(x, channel_dim, numbers, GROUPS)
    state = State.identity(GROUPS * view.channels, x.device)
    clock = Clock(x.device)
    clock.set("first_pass", 3)
    meter = backend.meter(state, Thresholds(0.1, -0.5, 1.0), clock)
    meter.update_groups(x, view, positions)
    fast = meter.try_groups(x, numbers.data_ptr())
    if not fast:
        meter.update_groups(x, view, positions)
    return state.to("cpu"), fast


def check_layout(setup: Setup, dtype: torch.dtype, layout: str) -> str:
    """Compare with the reference, and with a second run.

    Raises:
        AssertionError: a field is not what it should be, or bits differ.
    """
    fast, cases = 0, list(itertools.product(SHAPES[:2] if setup.quick else SHAPES, (False, True)))
    for shape, by_sample in cases:
        torch.manual_seed(len(shape))
        made = samples.make("nan and inf", shape, dtype)
        x, dim = samples.LAYOUTS[layout](made.to(setup.device))
        numbers = numbers_of(x, dim, by_sample)
        there = numbers.to(setup.device)
        got, taken = state_of(setup.backend, x, dim, there)
        again, _ = state_of(setup.backend, x, dim, there)
        assert torch.equal(got.words, again.words), f"{shape}: two runs differ"
        host, _ = samples.LAYOUTS[layout](made)
        want, _ = state_of(ReferenceBackend(), host, dim, numbers)
        tolerances.assert_equal_states(got, want, tolerances.ACCURACY[dtype], (shape, by_sample))
        fast += taken
    return f"{len(cases)} cases, {fast} of {len(cases)} second batches in the fast way"


def seconds_of(launch: Callable[[], object], setup: Setup) -> float:
    """Return the median of the time of a launch, by events of the device."""
    found = []
    for _ in range(7):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(_LAUNCHES):
            launch()
        end.record()
        setup.wait()
        found.append(begin.elapsed_time(end) / 1e3 / _LAUNCHES)
    return statistics.median(found)


def check_cost(setup: Setup, report: Report) -> str:
    """Measure masks of one half beside all positions.

    Raises:
        AssertionError: a mask of whole samples or of padding costs more than no mask.
    """
    x = torch.randn(TOKENS, device=setup.device)
    batch, tokens, channels = TOKENS
    masks = {
        "padding": torch.arange(tokens) < torch.full((batch, 1), tokens // 2),
        "samples": (torch.arange(batch) % 2 == 0)[:, None].expand(batch, tokens).contiguous(),
        "tokens": torch.rand(batch, tokens) < 0.5,
    }
    whole = setup.backend.meter(State.identity(channels, x.device), Thresholds())
    whole.update(x, view_of(x, 2))
    base = seconds_of(lambda: whole.try_update(x), setup)
    report.figures["all_us"] = 1e6 * base
    for name, mask in masks.items():
        numbers = mask[..., None].to(setup.device)
        meter = setup.backend.meter(State.identity(channels, x.device), Thresholds())
        meter.update_groups(x, *grouped_view_of(x, 2, numbers))
        address = numbers.data_ptr()
        taken = seconds_of(lambda m=meter, a=address: m.try_groups(x, a), setup)
        report.figures[f"{name}_over_all"] = taken / base
    dear = {n: report.figures[f"{n}_over_all"] for n in ("padding", "samples")}
    assert max(dear.values()) <= 1.0, f"times over all positions: {dear}"
    return ", ".join(f"{name} {report.figures[f'{name}_over_all']:.2f}" for name in masks)


def run(setup: Setup, report: Report) -> None:
    """Run all checks of this module."""
    for dtype, layout in itertools.product(dtypes_of(setup), samples.LAYOUTS):
        name = f"groups, {str(dtype).removeprefix('torch.')}, {layout}"
        report.check(name, partial(check_layout, setup, dtype, layout))
    if setup.on_gpu:
        report.check("masks of one half over all positions", lambda: check_cost(setup, report))

"""Does a backend give the reference's numbers, and the same bits every time?

Tensors and tolerances are those of tests/. A case is a dtype, a layout, a kind of data and a
shape, thresholds taking turns; small shapes are measured with each. Two batches go into one state,
the second in the way that hooks take.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from torch import Tensor

from fmstats.backends import DTYPES, Backend
from fmstats.backends.cpu import CpuBackend
from fmstats.backends.reference import ReferenceBackend
from fmstats.statistic.clock import Clock
from fmstats.statistic.fields import FIELDS
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of
from gpu_checks.report import Report, Setup, Skipped

_TESTS = str(Path(__file__).parents[2] / "tests")
if _TESTS not in sys.path:
    sys.path.append(_TESTS)
if importlib.util.find_spec("hypothesis") is None:  # it draws tensors for tests, none here
    _absent = ModuleType("hypothesis")
    vars(_absent)["strategies"] = SimpleNamespace(composite=lambda draw: draw)
    sys.modules["hypothesis"] = _absent
samples = importlib.import_module("samples")
tolerances = importlib.import_module("tolerances")

THRESHOLDS = {
    "none": Thresholds(),
    "upper": Thresholds(high=1.0),
    "all": Thresholds(zero_tol=0.1, low=-0.5, high=1.0),
}
SMALL = ((2, 3), (3, 5, 7), (5, 9, 7, 7))
MIDDLE = ((40, 1000), (3, 33, 11, 13), (4, 70, 14, 14), (2, 6, 3, 8, 10))
LARGE = ((8, 2, 128, 130), (16, 24, 28, 28))
LARGE_KINDS = ("relu", "large mean", "nan and inf")
QUICK_KINDS = ("normal", "large mean", "outlier first", "nan and inf")
QUICK_DTYPES = (torch.float32, torch.bfloat16, torch.float8_e5m2)
MOST_FAILURES = 5  # that are shown, of a dtype and layout


@dataclass(frozen=True)
class Case:
    """Describes one measurement, as the module lists them."""

    dtype: torch.dtype
    layout: str
    kind: str
    shape: tuple[int, ...]
    thresholds: str

    def __str__(self) -> str:
        return f"{self.kind} {self.shape}, thresholds {self.thresholds}"


def cases(dtype: torch.dtype, layout: str, quick: bool) -> Iterator[Case]:
    """Yield all cases of a dtype and layout."""
    turn = itertools.cycle(THRESHOLDS)
    kinds = QUICK_KINDS if quick else tuple(samples.KINDS)
    for shape in SMALL:
        for kind, thresholds in itertools.product(kinds, THRESHOLDS):
            yield Case(dtype, layout, kind, shape, thresholds)
    for shapes, some in ((MIDDLE, kinds), (LARGE, LARGE_KINDS)):
        for shape, kind in itertools.product(shapes[1::2] if quick else shapes, some):
            yield Case(dtype, layout, kind, shape, next(turn))


def batches_of(case: Case, seed: int = 0) -> list[Tensor]:
    """Return two contiguous batches on the host."""
    made = []
    for batch in range(2):
        torch.manual_seed(seed + batch)
        made.append(samples.make(case.kind, case.shape, case.dtype))
    return made


def state_of(
    backend: Backend, device: torch.device, case: Case, batches: Sequence[Tensor]
) -> tuple[State, int]:
    """Return the state of all batches, and how many of them took the fast way of hooks."""
    thresholds = THRESHOLDS[case.thresholds]
    meter, fast = None, 0
    for batch in batches:
        # Rearranged on the device: copying there would make other strides of some layouts.
        x, dim = samples.LAYOUTS[case.layout](batch.to(device))
        view = view_of(x, dim)
        if meter is None:
            clock = Clock(device)
            clock.set("first_pass", 3)
            meter = backend.meter(State.identity(view.channels, device), thresholds, clock)
        if meter.try_update(x):
            fast += 1
        else:
            meter.update(x, view)
    assert meter is not None
    return meter.state.to("cpu"), fast


def check_case(backend: Backend, device: torch.device, case: Case) -> int:
    """Compare with the reference and with the cpu backend; how many batches went the fast way.

    Raises:
        AssertionError: a field is not what it should be.
    """
    batches = batches_of(case)
    got, fast = state_of(backend, device, case, batches)
    host = torch.device("cpu")
    want, _ = state_of(ReferenceBackend(), host, case, batches)
    tolerances.assert_equal_states(got, want, tolerances.ACCURACY[case.dtype])
    cpu = CpuBackend()
    if cpu.why_not() is None:
        other, _ = state_of(cpu, host, case, batches)
        for name in tolerances.EXACT:
            row = FIELDS.index(name)
            assert torch.equal(got.words[row], other.words[row]), ("cpu", name)
    return fast


def check_all(backend: Backend, device: torch.device, these: Sequence[Case]) -> str:
    """Check every case, and report the failures together.

    Raises:
        AssertionError: some case is not as it should be.
    """
    failures: list[str] = []
    fast = 0
    for case in these:
        try:
            fast += check_case(backend, device, case)
        except AssertionError as error:
            failures.append(f"{case}: {error}")
    if failures:
        shown = "\n    ".join(failures[:MOST_FAILURES])
        raise AssertionError(f"{len(failures)} of {len(these)} cases:\n    {shown}")
    return f"{len(these)} cases, {fast} of {len(these)} second batches in the fast way"


def check_same_bits(backend: Backend, device: torch.device, case: Case, runs: int = 3) -> None:
    """Measure the same batches several times.

    Raises:
        AssertionError: the bits differ.
    """
    batches = batches_of(case)
    first, _ = state_of(backend, device, case, batches)
    for run in range(1, runs):
        again, _ = state_of(backend, device, case, batches)
        differ = Counter(FIELDS[row] for row, _ in (again.words != first.words).nonzero().tolist())
        assert not differ, f"run {run + 1} differs from the first in {dict(differ)} channels"


def dtypes_of(setup: Setup) -> Sequence[torch.dtype]:
    return QUICK_DTYPES if setup.quick else DTYPES


def check_parity(setup: Setup, report: Report) -> None:
    """Check all dtypes and layouts."""
    for dtype, layout in itertools.product(dtypes_of(setup), samples.LAYOUTS):
        these = list(cases(dtype, layout, setup.quick))
        name = f"{str(dtype).removeprefix('torch.')}, {layout}"
        report.check(name, lambda these=these: check_all(setup.backend, setup.device, these))


def check_determinism(setup: Setup, report: Report) -> None:
    """Check shapes that many blocks share, in every layout."""
    shapes = LARGE[:1] if setup.quick else LARGE
    for dtype, layout in itertools.product(dtypes_of(setup), samples.LAYOUTS):
        these = [Case(dtype, layout, "nan and inf", shape, "all") for shape in shapes]
        name = f"{str(dtype).removeprefix('torch.')}, {layout}, 3 runs"

        def same(these: Sequence[Case] = these) -> str:
            for case in these:
                check_same_bits(setup.backend, setup.device, case)
            return f"the same bits in {len(these)} shapes"

        report.check(name, same)


def check_fast_way(setup: Setup, report: Report) -> None:
    """Check that a tensor like the last one goes from hook to driver without Python."""

    def fast() -> str:
        if not hasattr(Tensor, "__dlpack_c_exchange_api__"):
            raise Skipped(f"PyTorch {torch.__version__} has no DLPack exchange API: 2.10 has")
        slow = []
        for dtype in dtypes_of(setup):
            case = Case(dtype, "contiguous", "normal", SMALL[-1], "none")
            _, taken = state_of(setup.backend, setup.device, case, batches_of(case))
            slow += [str(dtype)] * (taken == 0)
        assert not slow, f"every hook takes the slow way for {', '.join(slow)}"
        return "taken for every dtype"

    report.check("the hooks' fast way", fast)


def run(setup: Setup, report: Report) -> None:
    """Run all checks of this module."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the reference's many small operations are slower with more
    try:
        check_parity(setup, report)
        check_determinism(setup, report)
        check_fast_way(setup, report)
    finally:
        torch.set_num_threads(threads)

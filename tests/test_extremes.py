"""Data at the edge of its type: a finite element never makes a state that is not, but for an m2
whose true value is beyond float64."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from tolerances import ACCURACY, assert_equal_states
from torch import Tensor, nn

import fmstats
from fmstats.backends import DTYPES, Backend
from fmstats.backends.base import Meter
from fmstats.backends.cpu import CpuBackend
from fmstats.backends.reference import ReferenceBackend
from fmstats.statistic.state import State, merge
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of

# Triton's interpreter computes with numpy, which warns of what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
# (channels, positions) laid out for kernels of rows, columns and any strides.
LAYOUTS = {
    "rows": lambda x: x,
    "columns": lambda x: x.t().contiguous().t(),
    "strided": lambda x: x.repeat_interleave(2, 1)[:, ::2],
}


def measure(backend: Backend, *parts: Tensor) -> State:
    state = State.identity(parts[0].shape[0])
    for part in parts:
        backend.accumulate(state, part, view_of(part, 0), Thresholds())
    return state


def assert_finite(state: State) -> None:
    seen = state.finite > 0
    for field in ("mean", "min", "max"):
        assert state[field][seen].isfinite().all(), (field, state[field])
    assert not state["m2"].isnan().any()
    assert (state["m2"] >= 0).all()


def edges(dtype: torch.dtype) -> Tensor:
    """Channels of a few numbers that are the largest, the smallest and between, in float64."""
    info = torch.finfo(dtype)
    numbers = [info.max, -info.max, info.max / 2, 0.0, info.tiny, -info.smallest_normal / 4, 1.0]
    rows = []
    for first, second in itertools.permutations(numbers, 2):
        for often in (1, 5, 40):
            rows.append(torch.full((often + 37,), first, dtype=torch.float64))
            rows[-1][torch.randperm(often + 37)[:often]] = second
    longest = max(map(len, rows))
    return torch.stack([torch.cat([row, row[:1].expand(longest - len(row))]) for row in rows])


@every_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_finite_data_makes_finite_states(backend: Backend, dtype: torch.dtype, layout: str) -> None:
    x = LAYOUTS[layout](edges(dtype).to(dtype))
    once, twice = measure(backend, x), measure(backend, x, x)
    want = measure(ReferenceBackend(), x)
    for got, right in ((once, want), (twice, merge(want, want)), (merge(once, once), twice)):
        assert_finite(got)
        assert_equal_states(got, right, ACCURACY[dtype])


def test_a_mask_of_the_most_negative_number() -> None:
    model = nn.Identity()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = torch.full((1000, 1), torch.finfo(dtype).min, dtype=dtype)
        x[:5] = 0
        with fmstats.track(model) as tracker:
            model(x)
            model(x)
        (stats,) = tracker.stats().values()
        right = x.double()
        assert stats.mean[0] == pytest.approx(float(right.mean()), rel=1e-12)
        assert stats.var[0] == pytest.approx(float(torch.cat([right, right]).var()), rel=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_squares_beyond_float64_are_infinite(backend: Backend, layout: str) -> None:
    x = torch.tensor([[1e200, -1e200, 1e200, 3e200], [1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    for state in (measure(backend, LAYOUTS[layout](x)), measure(backend, x[:, :2], x[:, 2:])):
        assert state["m2"].tolist() == [math.inf, 5.0]
        assert state["mean"].tolist() == pytest.approx([1e200, 2.5], rel=1e-12)


@pytest.mark.parametrize("scale", [1e140, 1e153, 1e160, 1e290, 1.7e308])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_m2_is_infinite_where_it_truly_is(backend: Backend, layout: str, scale: float) -> None:
    """Also where sums about the first pivot overflow, and those about the mean do not."""
    x = torch.rand(3, 400, dtype=torch.float64) * 2 - 1
    x[1, 7:] = 0.5 + x[1, 7:] / 100
    x[2] /= 1e3
    x *= scale
    state = measure(backend, LAYOUTS[layout](x))
    small = x * 2.0**-600
    m2 = [
        sum((v - m) ** 2 for v in row) * 2.0**600 * 2.0**600
        for row, m in zip(small.tolist(), small.mean(1).tolist(), strict=True)
    ]
    assert_finite(state)
    assert state["m2"].tolist() == pytest.approx(m2, rel=1e-9)
    assert state["mean"].tolist() == pytest.approx(
        (small.mean(1) * 2.0**600).tolist(), rel=1e-9, abs=1e-9 * scale
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_nan_of_float8_meets_no_threshold(backend: Backend, layout: str) -> None:
    """The CUDA kernels read it as 480, and take back what they counted."""
    x = torch.ones(16, 64)
    x[:, 3] = math.nan
    x = x.to(torch.float8_e4m3fn)
    thresholds = Thresholds(zero_tol=480.0, low=480.0, high=480.0)
    state = State.identity(16)
    laid = LAYOUTS[layout](x)
    backend.accumulate(state, laid, view_of(laid, 0), thresholds)
    for field, count in (("nan", 1), ("zeros", 63), ("sat_low", 63), ("sat_high", 0)):
        assert state[field].tolist() == [count] * 16, field


def test_the_mean_of_nothing_finite_means_nothing(backend: Backend) -> None:
    """Not even where the way from it to the data's mean is beyond float64."""
    x = torch.full((16, 8), 1.7e308, dtype=torch.float64)
    state = State.identity(16)
    state["mean"].fill_(-1.7e308)
    backend.accumulate(state, x, view_of(x, 0), Thresholds())
    assert torch.equal(state.words, measure(backend, x).words)


def test_a_mean_beyond_float32_meets_float32_data(backend: Backend) -> None:
    """One layer may see both types: float64 leaves a mean that float32 cannot hold."""
    wide = torch.full((2, 300), 1e300, dtype=torch.float64)
    wide[:, :3] = -1e299
    narrow = torch.rand(2, 300)
    state = measure(backend, wide, narrow)
    assert_finite(state)
    want = measure(ReferenceBackend(), wide, narrow)
    assert torch.equal(state["m2"], want["m2"])
    assert torch.allclose(state["mean"], want["mean"], rtol=1e-12)


def test_states_of_means_farther_apart_than_the_largest_number() -> None:
    largest = torch.finfo(torch.float64).max
    ends = [torch.full((1, n), x, dtype=torch.float64) for n, x in ((3, largest), (1, -largest))]
    low, high = (measure(ReferenceBackend(), x) for x in ends)
    for whole in (merge(low, high), merge(high, low), measure(ReferenceBackend(), *ends)):
        assert whole["mean"].item() == pytest.approx(largest / 2, rel=1e-15)
        assert whole["m2"].item() == math.inf


def test_squares_of_small_distances_do_not_vanish_in_a_merge() -> None:
    """delta² alone is below float64; times 2^60 elements it is not."""
    a, b = State.identity(1), State.identity(1)
    for state, mean in ((a, 0.0), (b, 1e-165)):
        state["count"].fill_(2**60)
        state["mean"].fill_(mean)
        state["min"].fill_(mean)
        state["max"].fill_(mean)
    assert merge(a, b)["m2"].item() == pytest.approx(0.5 * 2**60 * 1e-165 * 1e-165 * 1.0, rel=1e-4)


def test_an_infinite_m2_is_saved_and_loaded(tmp_path: Path) -> None:
    x = torch.tensor([1e200, -1e200, 1e200, 3e200], dtype=torch.float64).view(4, 1)
    model = nn.Identity()
    with fmstats.track(model) as tracker:
        model(x)
    tracker.stats().save(tmp_path / "p.safetensors")
    (stats,) = fmstats.load(tmp_path / "p.safetensors").values()
    assert stats.var[0] == math.inf
    assert stats.mean[0] == pytest.approx(1e200)


def test_states_of_more_than_2_33_elements(backend: Backend) -> None:
    """Each count in 64 bits, and as float64 where moments are merged."""
    x = torch.randn(17, 40)
    batch = measure(ReferenceBackend(), x)
    for count in (2**33 + 5, 2**40 - 1, 2**55 + 2**22):
        state = measure(ReferenceBackend(), x * 3 + 1)
        for field in ("count", "zeros", "nan"):
            state[field].fill_(count if field != "nan" else 2**33 + 1)
        state["m2"].mul_(count / 40)
        want = merge(state, batch)
        backend.accumulate(state, x, view_of(x, 0), Thresholds())
        assert_equal_states(state, want, (1e-12, 1e-12))


def hot_path(x: Tensor, thresholds: Thresholds) -> tuple[State, Meter]:
    """A meter that expects more tensors like `x`."""
    backend = CpuBackend()
    if backend.why_not() is not None or not hasattr(Tensor, "__dlpack_c_exchange_api__"):
        pytest.skip("needs the native module and a torch with DLPack's exchange API")
    state = State.identity(x.shape[1])
    meter = backend.meter(state, thresholds)
    meter.update(x, view_of(x, 1))
    return state, meter


def test_the_hot_path_compares_float64_with_float64() -> None:
    x = torch.full((4, 2), 0.99, dtype=torch.float64)  # float32 has no 0.99
    state, meter = hot_path(x, Thresholds(high=0.99))
    assert meter.try_update(x)
    assert state["sat_high"].tolist() == [8, 8]


def test_the_hot_path_is_for_plain_tensors() -> None:
    class Marked(Tensor):
        pass

    x = torch.randn(4, 2)
    state, meter = hot_path(x, Thresholds())
    for other in (x.as_subclass(Marked), nn.Parameter(x), x.numpy(), None, 3):
        assert not meter.try_update(other)
    assert meter.try_update(x.clone())
    assert state["count"].tolist() == [8, 8]


FLUSHED = textwrap.dedent(
    """
    import sys, torch
    from fmstats.backends.cpu import CpuBackend
    from fmstats.backends.pytorch import TorchBackend
    from fmstats.backends.reference import ReferenceBackend
    from fmstats.statistic.view import view_of
    from fmstats.statistic.state import State
    from fmstats.statistic.thresholds import Thresholds

    caller, workers = (word == "True" for word in sys.argv[1:])
    torch.set_num_threads(4)
    torch.set_flush_denormal(workers)  # threads inherit what their maker has
    torch.ones(1 << 20).sum()
    torch.set_flush_denormal(caller)
    bits = torch.zeros(4, 1 << 18, dtype=torch.int32)
    bits[:, ::2] = 71362  # 1e-40
    bits[:, ::4] -= 2**31
    x, n = bits.view(torch.float32), bits.shape[1]
    backends = [TorchBackend(), ReferenceBackend(), *map(CpuBackend, CpuBackend().isas)]
    for backend in backends:
        for laid in (x, x.t().contiguous().t()):
            for thresholds, zeros, low in (
                (Thresholds(zero_tol=5e-41), n // 2, 0),
                (Thresholds(zero_tol=1.1e-40), n, 0),
                (Thresholds(low=-5e-41), n // 2, n // 4),
            ):
                s = State.identity(4)
                backend.accumulate(s, laid, view_of(laid, 0), thresholds)
                assert s["zeros"].tolist() == [zeros] * 4, (backend.name, s["zeros"])
                assert s["sat_low"].tolist() == [low] * 4, (backend.name, s["sat_low"])
                lowest, highest = s.words[9, 0].item(), s.words[10, 0].item()
                assert highest == lowest + 2**63 > 0, (backend.name, lowest, highest)
                assert abs(s["m2"][0] / (71362 * 2.0**-149) ** 2 / (n // 2) - 1) < 1e-6
    """
)


@pytest.mark.parametrize("workers", [False, True])
@pytest.mark.parametrize("caller", [False, True])
def test_subnormals_count_by_their_value(caller: bool, workers: bool) -> None:
    """Whatever the processor does with them in the calling thread and in those that it starts."""
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot flush subnormal numbers")
    command = [sys.executable, "-W", "error", "-c", FLUSHED, str(caller), str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

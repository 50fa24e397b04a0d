"""Does tracking leave a training step as it is: its gradients, its memory, and no wait in it?"""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

import fmstats
from fmstats.backends import DTYPES
from fmstats.backends.native import load_native
from fmstats.backends.reference import ReferenceBackend
from fmstats.models.channel_dims import channel_rules
from fmstats.statistic.fields import FIELDS
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of
from gpu_checks.parity import tolerances
from gpu_checks.report import Report, Setup, Skipped

SHAPE = (16, 3, 32, 32)
UNIT = 512  # bytes in which torch's allocator gives out small pieces


class Net(nn.Module):
    """Is a small convolutional net whose layers use no atomics in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
        )
        self.head = nn.Linear(64 * 16 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return ten numbers per image."""
        return self.head(self.features(x).flatten(1))


@contextmanager
def deterministic() -> Iterator[None]:
    """Have convolutions use algorithms that give the same bits every time."""
    flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
    with flags:
        yield


def step(model: nn.Module, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Make a forward pass under autocast and its backward pass; return the output."""
    model.zero_grad(set_to_none=True)
    with torch.autocast(x.device.type, dtype=dtype):
        output: Tensor = model(x)
        loss = output.float().square().mean()
    loss.backward()
    return output.detach()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def track(model: nn.Module, setup: Setup) -> fmstats.Tracker:
    return fmstats.track(model, backend=setup.backend.name, on_error="raise")


def check_gradients(setup: Setup, dtype: torch.dtype) -> str:
    """Check that gradients, buffers and output are the same, bit for bit, with tracking.

    Raises:
        Skipped: they are not the same in two runs without it.
        AssertionError: they are not.
    """
    torch.manual_seed(0)
    bare = Net().to(setup.device).train()
    again, tracked = copy.deepcopy(bare), copy.deepcopy(bare)
    x = torch.randn(SHAPE, device=setup.device)
    with deterministic():
        step(copy.deepcopy(bare), x, dtype)  # libraries choose and allocate
        want = step(bare, x, dtype)
        other = step(again, x, dtype)
        if not all(torch.equal(g, gradients(again)[n]) for n, g in gradients(bare).items()):
            raise Skipped("gradients differ between two runs without tracking")
        assert torch.equal(want, other)
        with track(tracked, setup) as tracker:
            got = step(tracked, x, dtype)
    assert tracker.stats(), "nothing was measured"
    assert torch.equal(got, want), "another output"
    found = gradients(tracked)
    for name, gradient in gradients(bare).items():
        assert torch.equal(found[name], gradient), f"another gradient of {name}"
    for (name, a), b in zip(bare.named_buffers(), tracked.buffers(), strict=True):
        assert torch.equal(a, b), f"another buffer {name}"
    return f"{len(found)} gradients, the output and all buffers, bit for bit"


def check_statistics(setup: Setup, dtype: torch.dtype) -> str:
    """Check that a training step's statistics are those of a copy of each output.

    Raises:
        AssertionError: it is not.
    """
    torch.manual_seed(0)
    model = Net().to(setup.device).train()
    x = torch.randn(SHAPE, device=setup.device)
    kept: dict[str, Tensor] = {}

    def keep(name: str, layer: nn.Module) -> None:
        layer.register_forward_hook(lambda m, args, out: kept.update({name: out.detach().clone()}))

    with track(model, setup) as tracker:
        for name, layer in model.named_modules():
            if not list(layer.children()):
                keep(name, layer)
        step(model, x, dtype)
    seen = set()
    for name, stats in tracker.stats().items():
        output = kept[name].cpu()
        view = view_of(output, 1)
        want = State.identity(view.channels)
        thresholds = Thresholds()
        ReferenceBackend().accumulate(want, output, view, thresholds)
        tolerances.assert_equal_states(stats.state, want, tolerances.ACCURACY[output.dtype])
        seen.add(str(output.dtype).removeprefix("torch."))
    return f"{len(kept)} layers, outputs of {', '.join(sorted(seen))}"


def bytes_allowed(model: nn.Module, x: Tensor, setup: Setup, dtype: torch.dtype) -> int:
    """Return the bytes of all leaf modules' states and workspaces, as the allocator rounds."""
    native = load_native()
    assert native is not None
    multiprocessors = torch.cuda.get_device_properties(setup.device).multi_processor_count
    rules, total = channel_rules(model), 0
    rooms: list[int] = []

    def add(name: str, output: Tensor) -> None:
        nonlocal total
        view = view_of(output, rules[name].resolve(output.shape))
        launch = native.CudaLaunch(
            DTYPES.index(output.dtype),
            output.data_ptr(),
            view.channels,
            view.channel_stride,
            view.dims,
            multiprocessors,
        )
        total += _rounded(8 * len(FIELDS) * view.channels)
        rooms.append(_rounded(8 * launch.parts_words) + _rounded(4 * launch.tickets))

    handles = [
        layer.register_forward_hook(lambda m, args, out, name=name: add(name, out))
        for name, layer in model.named_modules()
        if not list(layer.children())
    ]
    step(model, x, dtype)
    for handle in handles:
        handle.remove()
    return total + 4 * max(rooms)


def _rounded(size: int) -> int:
    return -(-size // UNIT) * UNIT


def memory_of_a_step(model: nn.Module, x: Tensor, dtype: torch.dtype) -> tuple[int, int]:
    """Return the bytes before a step and the most in use in it, after the first one."""
    step(model, x, dtype)
    model.zero_grad(set_to_none=True)
    gc.collect()
    torch.cuda.synchronize(x.device)
    before = torch.cuda.memory_allocated(x.device)
    torch.cuda.reset_peak_memory_stats(x.device)
    step(model, x, dtype)
    torch.cuda.synchronize(x.device)
    return before, torch.cuda.max_memory_allocated(x.device)


def check_memory(setup: Setup, dtype: torch.dtype, report: Report) -> str:
    """Check that tracking holds states and workspaces, but no activation.

    Raises:
        Skipped: the device is not a GPU.
        AssertionError: more is held.
    """
    if not setup.on_gpu:
        raise Skipped(f"torch counts no memory of {setup.device.type}")
    torch.manual_seed(0)
    model = Net().to(setup.device).train()
    x = torch.randn((256, *SHAPE[1:]), device=setup.device)
    with deterministic():
        allowed = bytes_allowed(model, x, setup, dtype)
        before, most = memory_of_a_step(model, x, dtype)
        with track(model, setup) as tracker:
            with_before, with_most = memory_of_a_step(model, x, dtype)
            assert tracker.stats()
    figures = {
        "allowed": allowed,
        "held": with_before - before,
        "more_at_most": with_most - most,
        "step": most - before,
    }
    report.figures[f"memory {str(dtype).removeprefix('torch.')}"] = figures
    assert figures["held"] <= allowed, figures
    assert figures["more_at_most"] <= allowed, figures
    return ", ".join(f"{name} {size:,}" for name, size in figures.items()) + " bytes"


def steps_without_wait(model: nn.Module, batches: Sequence[Tensor], setup: Setup) -> None:
    """Make steps on two streams, in which torch refuses to wait for the device.

    Raises:
        RuntimeError: torch's, of what waited.
    """
    stream = torch.cuda.Stream(setup.device)
    setup.wait()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches:
            step(model, batch, torch.bfloat16)
        stream.wait_stream(torch.cuda.current_stream(setup.device))
        with torch.cuda.stream(stream):
            step(model, batches[0], torch.bfloat16)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    setup.wait()


def check_no_wait(setup: Setup) -> str:
    """Check that nothing in a tracked step waits for the device.

    Raises:
        Skipped: the device is not a GPU, or a step waits without tracking too.
        RuntimeError: torch's, of what waited.
    """
    if not setup.on_gpu:
        raise Skipped("torch watches for waits on GPUs alone")
    model = Net().to(setup.device).train()
    batches = [torch.randn((n, *SHAPE[1:]), device=setup.device) for n in (16, 8, 64, 16)]
    for batch in batches:
        step(model, batch, torch.bfloat16)
    try:
        steps_without_wait(model, batches, setup)
    except RuntimeError as error:
        raise Skipped(f"a step without tracking waits too: {error}") from error
    with track(model, setup) as tracker:
        step(model, batches[0], torch.bfloat16)
        steps_without_wait(model, batches, setup)
        assert tracker.stats(), "nothing was measured"
    return f"{len(batches) + 1} steps of three batch sizes on two streams"


def run(setup: Setup, report: Report) -> None:
    """Run all checks of this module."""
    half = (torch.bfloat16,) if setup.device.type == "cpu" else (torch.float16, torch.bfloat16)
    for dtype in half:
        name = str(dtype).removeprefix("torch.")
        report.check(f"gradients, autocast {name}", lambda d=dtype: check_gradients(setup, d))
        report.check(f"statistics, autocast {name}", lambda d=dtype: check_statistics(setup, d))
        report.check(f"memory, autocast {name}", lambda d=dtype: check_memory(setup, d, report))
    report.check("no wait", lambda: check_no_wait(setup))

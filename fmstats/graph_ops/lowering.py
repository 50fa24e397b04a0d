"""This module has Inductor make the statistics of layers within the kernels that make the layers.

Before Inductor looks at a graph for a GPU, each `observe` is split (`splitting.py`). Its `partials`
become a reduction (`reduction.py`), which Inductor fuses with what makes the tensor. What cannot be
measured so stays `observe`.

Inductor is not imported until someone else has: `when_inductor_comes` waits for that.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor

from fmstats.graph_ops import directly, fold, lanes, partials  # noqa: F401  # the operations
from fmstats.graph_ops.planes import planes_of
from fmstats.graph_ops.splitting import split_measurements
from fmstats.statistic.packing import MOST_POSITIONS
from fmstats.statistic.thresholds import Thresholds

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# Versions whose inner parts `reduction.py` is known to fit: from the first to below the second.
VERSIONS = ((2, 11), (2, 14))
# Whose float64 units have half the rate of float32. Sums in float32 are not accurate enough: about
# the middle one of three values, 2 deviations off the mean, a variance was off by 1e-6.
_FULL_RATE = ((8, 0), (9, 0), (10, 0))


_ENTRY = "torch._inductor.compile_fx"  # the module that graphs come to first
_lock = threading.Lock()
_registered = False
_failure: str | None = None  # of the registration
# By the number of what is measured: why its tensors are not measured within their kernels.
reasons: dict[int, str] = {}
# The same where it is known before there is a graph.
declined: dict[int, str] = {}


def why_not_here() -> str | None:
    """Tell why this installation cannot lower; None if it can."""
    if _failure is not None:
        return _failure
    if os.environ.get("FMSTATS_FUSED") == "0":
        return "FMSTATS_FUSED=0 was asked for"
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if not VERSIONS[0] <= version < VERSIONS[1]:
        first, after = (".".join(map(str, v)) for v in VERSIONS)
        return f"torch {torch.__version__} is not known to fuse: from {first} to below {after} are"
    return lanes.why_not()


def when_inductor_comes() -> None:
    """Register the lowering now if Inductor is imported, else as soon as it is."""
    if _ENTRY in sys.modules:
        register()
    elif not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


def wait_no_more() -> None:
    """Do not wait for Inductor any more."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Waiting)]


class _Waiting:
    """This finder has the lowering registered when the entry to Inductor was imported."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        """Return how to import that module, and nothing of others."""
        if name != _ENTRY:
            return None
        sys.meta_path.remove(self)
        spec: Any = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def run_and_register(module: Any) -> None:
            run(module)
            register()

        spec.loader.exec_module = run_and_register
        return spec


def register() -> None:
    """Have Inductor take our operations, once; what is not public may have changed."""
    global _registered, _failure
    with _lock:
        if _registered or why_not_here() is not None:
            return
        _registered = True
        try:
            _register()
        except Exception as error:  # Inductor goes on without: the operation stays
            _failure = f"Inductor does not take the lowering: {error!r}"


def _register() -> None:
    from fmstats.graph_ops import in_triton

    in_triton.install()
    directly.show_generated_code()
    _lower(torch.ops.fmstats.partials.default, _partials_or)
    for name in vars(directly.functions):
        operation = getattr(torch.ops.fmstats, name).default
        _lower(operation, partial(_calling_directly, operation))
    entry: Any = sys.modules[_ENTRY]
    run_passes = entry.run_pre_grad_passes

    @wraps(run_passes)
    def split_and_run_passes(module: Any, *args: Any) -> Any:
        split_measurements(module, may_be_split)
        return run_passes(module, *args)

    entry.run_pre_grad_passes = split_and_run_passes


def _lower(operation: Any, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Register the lowering of an operation, made of that which leaves it as it is."""
    lowering: Any = sys.modules["torch._inductor.lowering"]
    lowered = make(lowering.fallback_handler(operation))
    # A registration as a fallback is taken for the absence of one.
    lowering.fallbacks.discard(operation)
    lowering.register_lowering(operation, type_promotion_kind=None)(lowered)


def may_be_split(x: Tensor | None, channel_dim: int, number: int) -> bool:
    """Tell whether a tensor may be measured within its kernel; if not, the reason is kept.

    Args:
        x: the tensor without data; None if nothing is known of it.
        channel_dim: of it; -1 where all is one channel.
        number: of what is measured.
    """
    reason = declined.get(number) or why_not(x, channel_dim)
    if reason is not None and (x is None or x.device.type != "cpu"):  # there no kernels fuse
        reasons[number] = reason
    return reason is None


def _calling_directly(operation: Any, as_it_is: Callable[..., Any]) -> Callable[..., None]:
    """Return the lowering of an operation that has a function which is called directly."""
    name = directly.source_of(operation.overloadpacket.__name__)

    def lowered(*args: Any) -> None:
        from torch._inductor.virtualized import V

        as_it_is(*args)
        kernel: Any = V.graph.operations[-1]
        if getattr(kernel, "op_overload", None) is operation:
            kernel.python_kernel_name = name

    return lowered


def _partials_or(as_it_is: Callable[..., Any]) -> Callable[..., Any]:
    def lowered(
        x: Any,
        channel_dim: int,
        zero_tol: float,
        low: float | None,
        high: float | None,
        number: int,
    ) -> Any:
        from fmstats.graph_ops.reduction import reduce_to_partials
        from fmstats.graph_ops.tiles import choose_tiles

        try:
            choose_tiles()
            planes = planes_of([int(extent) for extent in x.get_size()], channel_dim)
            thresholds = Thresholds(zero_tol, low, high)
            return [reduce_to_partials(x, planes, thresholds, _channels_last(channel_dim))]
        except Exception as error:  # of what is not public: the model shall compile
            reasons[number] = f"could not be lowered: {error!r}"
            return as_it_is(x, channel_dim, zero_tol, low, high, number)

    return lowered


def why_not(x: Tensor | None, channel_dim: int) -> str | None:
    """Tell why a tensor of a graph cannot be measured within its kernel; None if it can.

    Args:
        x: the tensor without data; None if nothing is known of it.
        channel_dim: of it; -1 where all is one channel.
    """
    from torch._inductor import ir

    if x is None:
        return "is not known when the graph is made"
    if x.device.type == "cpu" or not ir.is_triton(x.device):
        return f"is on {x.device.type}, where kernels do not fuse with it"
    if not has_fast_float64(x.device):
        return "is on a GPU that is slow at float64"
    if x.dtype not in DTYPES:
        return f"is {str(x.dtype).removeprefix('torch.')}"
    if not all(isinstance(extent, int) for extent in x.shape):
        return f"has a shape that is not known: {tuple(map(str, x.shape))}"
    if x.numel() == 0:
        return "is empty"
    planes = planes_of(x.shape, channel_dim)
    if not planes.reduced:
        return "has one element a channel"
    if planes.positions > MOST_POSITIONS:
        return f"has planes of more than {MOST_POSITIONS} positions"
    return None


def has_fast_float64(device: torch.device) -> bool:
    """Tell whether a GPU adds float64 at half the rate of float32, as those of data centres do."""
    if device.type != "cuda":
        return False
    properties: Any = torch.cuda.get_device_properties(device)
    if torch.version.hip is not None:
        return str(getattr(properties, "gcnArchName", "")).startswith("gfx9")
    return (properties.major, properties.minor) in _FULL_RATE


def _channels_last(channel_dim: int) -> bool:
    from torch._inductor.virtualized import V

    node: Any = V.graph.current_node
    x = node.args[0].meta["val"]
    return channel_dim != -1 and x.stride(channel_dim) == 1 and x.shape[channel_dim] > 1

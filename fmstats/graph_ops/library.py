"""This module declares the operations that compiled graphs hold.

`observe` measures a tensor of a layer. The memory that it fills is an argument of the graph, so
that a CUDA graph may hold the operation: nothing is allocated in it, and what a replay may not
repeat, such as counting on the host, is done by words on the device. Its kernel is native
(csrc/graph_targets.cpp); a tensor that is not as the last one goes on to `observe_in_python`.

`observe_on_host` measures a tensor of a CPU into the memory of its layer, which the graph does not
have: no CUDA graph holds the operation, and each argument of a graph costs time in each pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from fmstats.graph_ops.directly import call_directly
from fmstats.graph_ops.targets import MeasuredInGraphs, find_target

library: Any = torch.library.Library("fmstats", "FRAGMENT")  # type: ignore[no-untyped-call]

# Tensors are read as they lie: a compiler need not copy them to the strides that it traced.
AS_IT_LIES = tuple(
    getattr(torch.Tag, name) for name in ("flexible_layout",) if hasattr(torch.Tag, name)
)
# state: the memory of a `State`; clock: the words of a `Clock`; target: the number of what is
# measured, in this process; channel_dim: of x, -1 where all is one channel; zero_tol, low, high:
# the `Thresholds`, None where there is no bound.
library.define(
    "observe(Tensor x, Tensor(a!) state, Tensor(b!) clock, int target, int channel_dim, "
    "float zero_tol, float? low, float? high) -> ()",
    tags=AS_IT_LIES,
)
library.define("observe_in_python(Tensor x, Tensor(a!) state, Tensor(b!) clock, int target) -> ()")
# In CUDA graphs Python does not run: they are to be cut at these operations.
NO_CUDA_GRAPHS = tuple(
    getattr(torch.Tag, name) for name in ("cudagraph_unsafe",) if hasattr(torch.Tag, name)
)
# op_token: is not changed, but keeps the operations in their order.
library.define(
    "observe_on_host(Tensor x, Tensor(a!) op_token, int target) -> ()",
    tags=(*NO_CUDA_GRAPHS, *AS_IT_LIES),
)
library.define("observe_on_host_in_python(Tensor x, Tensor(a!) op_token, int target) -> ()")


Function = TypeVar("Function", bound=Callable[..., Any])


def run_as_is(function: Function) -> Function:
    """Let Dynamo not compile a function that it meets outside of a graph, nor what that calls.

    The hooks of a compiled model itself are called so, and what operations in graphs call. Inside
    of other graphs it is still traced.
    """
    frames: Any = torch._C._dynamo.eval_frame
    try:
        skip = frames._FrameAction.SKIP
        frames.set_code_exec_strategy(function.__code__, frames._FrameExecStrategy(skip, skip))
    except AttributeError:  # versions that lack this compile a graph of one operation instead
        pass
    return function


@run_as_is
def _observe_in_python(x: Tensor, state: Tensor, clock: Tensor, target: int) -> None:
    found: MeasuredInGraphs | None = find_target(target)
    if found is not None:
        found.measure(x, state, clock)


@run_as_is
def _observe_on_host(x: Tensor, op_token: Tensor, target: int) -> None:
    found: MeasuredInGraphs | None = find_target(target)
    if found is not None:
        found.update(x)


def _observe(x: Tensor, state: Tensor, clock: Tensor, target: int, *_: object) -> None:
    """Measure where torch does not take the native kernel."""
    _observe_in_python(x, state, clock, target)


library.impl("observe", _observe, "CompositeExplicitAutograd")
library.impl("observe_in_python", _observe_in_python, "CompositeExplicitAutograd")
torch.library.register_fake("fmstats::observe", lambda *_: None, lib=library)
torch.library.register_fake("fmstats::observe_in_python", lambda *_: None, lib=library)
for _name in ("observe_on_host", "observe_on_host_in_python"):
    library.impl(_name, _observe_on_host, "CompositeExplicitAutograd")
    torch.library.register_fake(f"fmstats::{_name}", lambda *_: None, lib=library)
for _name in ("observe", "observe_on_host"):
    call_directly(_name, getattr(torch.ops.fmstats, _name).default)

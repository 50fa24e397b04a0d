"""Look inside operations that take functions (`cond`, `scan`, exported regions).

A mode is off while it handles an operation, so it would see nothing of what the functions do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch._ops import HigherOrderOperator, OpOverload, OpOverloadPacket
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from fmstats.analysis.names import name_of


def takes_functions(operation: Any, args: Sequence[Any]) -> bool:
    """Return whether an operation is given functions to run."""
    return isinstance(operation, HigherOrderOperator) and any(map(_is_function, args))


def run_inside(
    operation: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    mode: TorchDispatchMode,
    cost: Callable[[Callable[[], object]], int],
) -> Any:
    """Run an operation that takes functions, with `mode` on in these.

    Where a condition is fake, the branch that costs more runs.

    Args:
        operation: to run.
        args: with which it was called.
        kwargs: beside these.
        mode: that is off at the moment.
        cost: how much a function that takes nothing costs.

    Raises:
        DataDependentOutputException: how often a loop runs depends on a fake tensor.
    """

    def seen(value: Any) -> Any:
        if not _is_function(value):
            return value

        def run(*args: Any, **kwargs: Any) -> Any:
            with mode:
                return value(*args, **kwargs)

        return run

    name = name_of(operation)
    if name == "higher_order::cond" and isinstance(args[0], FakeTensor):
        _, *branches, operands = args
        dearest = max(branches, key=lambda branch: cost(lambda: branch(*operands)))
        return seen(dearest)(*operands)
    if name == "higher_order::while_loop" and any(isinstance(x, FakeTensor) for x in args[2]):
        raise DataDependentOutputException(operation)
    return operation(*tree_map(seen, tuple(args)), **kwargs)


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, OpOverload | OpOverloadPacket | type)

"""Functions that code which Inductor generates calls in place of operations.

The dispatcher of torch takes microseconds, and `torch.ops.fmstats.observe` is three look-ups that
Python cannot remember. So this code finds the functions where it finds Inductor's own.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

# By the names of the operations that have one.
functions = SimpleNamespace()


def call_directly(name: str, function: Callable[..., Any]) -> None:
    """Have generated code call a function that does what an operation of fmstats does.

    Args:
        name: of the operation, which has one overload.
        function: takes what the operation takes, plain tensors below autograd.
    """
    setattr(functions, name, function)


def show_generated_code() -> None:
    """Put the functions where generated code finds them; Inductor has been imported."""
    from torch._inductor.select_algorithm import extern_kernels

    extern_kernels.fmstats = functions  # type: ignore[attr-defined]


def source_of(name: str) -> str:
    """Return how generated code names the function of an operation."""
    return f"extern_kernels.fmstats.{name}"

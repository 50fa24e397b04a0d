"""`GradScale` tells by how much gradients are scaled now: `grad_scale=` of `track`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from fmstats.errors import FmstatsError


class GradScale:
    """`GradScale` is a number, or a function that is asked for one once in each backward pass.

    A scaler of torch.amp keeps its scale on the device, and waits for it when it is asked.

    Args:
        asked: a number, a function without arguments, an object with `get_scale()` as
            torch.amp.GradScaler has it, or None for gradients as they are.

    Raises:
        FmstatsError: it is none of these, or a number that is not above 0 and finite.
    """

    def __init__(self, asked: object = None) -> None:
        self._ask: Callable[[], Any] | None = None
        self._backward_pass: int | None = None  # that `_known` was asked in
        self._known = 1.0
        of_scaler = getattr(asked, "get_scale", None)
        if callable(of_scaler):
            self._ask = of_scaler
        elif callable(asked):
            self._ask = asked
        elif asked is not None:
            self._known = _check(asked)

    def now(self) -> float:
        """Return what the loss of the backward pass that runs now was multiplied by.

        Raises:
            FmstatsError: what was asked gives no number above 0.
        """
        if self._ask is not None:
            number = torch._C._current_graph_task_id()
            if number != self._backward_pass or number == -1:
                self._known, self._backward_pass = _check(self._ask()), number
        return self._known


def _check(scale: object) -> float:
    try:
        number = float(scale)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf or isinstance(scale, bool | str):
        raise FmstatsError(
            f"grad_scale={scale!r}: give a finite number above 0, a function that returns one, or "
            "a GradScaler"
        )
    return number

"""Where the outputs of an activation count as saturated, by module type.

| module | low | high | why |
|---|---|---|---|
| ReLU6 | none | 6 | below it is a ReLU: its zeros are counted as sparsity |
| Hardtanh | min_val | max_val | its clamps |
| Hardsigmoid | 0 | 1 | its clamps |
| Sigmoid | 0.01 | 0.99 | the gradient has fallen to 4 % of its largest |
| Tanh | -0.99 | 0.99 | the gradient has fallen to 2 % of its largest |

Hardswish has no bound: it is flat only where it is exactly 0, which sparsity counts, and grows
without limit above.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn as nn

from fmstats.errors import FmstatsError
from fmstats.selection import Selector, matches
from fmstats.statistic import Thresholds

Bounds = tuple[float | None, float | None]


def bounds_of(module: nn.Module) -> Bounds:
    """(low, high) of a module's output by its type; None where it has no such bound."""
    if isinstance(module, nn.ReLU6):  # before Hardtanh, its base class
        return None, 6.0
    if isinstance(module, nn.Hardtanh):
        return float(module.min_val), float(module.max_val)
    if isinstance(module, nn.Hardsigmoid):
        return 0.0, 1.0
    if isinstance(module, nn.Sigmoid):
        return 0.01, 0.99
    if isinstance(module, nn.Tanh):
        return -0.99, 0.99
    return None, None


def thresholds_of(
    name: str,
    module: nn.Module,
    of: str,
    zero_tol: float,
    given: Mapping[Selector, Bounds] | None,
) -> Thresholds:
    """What counts as zero and saturated in a layer: the user's bounds if a selector fits it.

    Bounds by module type are of outputs; an `of="input"` has those that the user gives.

    Raises:
        FmstatsError: bounds that are not a pair of numbers or None, or not finite.
    """
    bounds: object = bounds_of(module) if of == "output" else (None, None)
    for selector, chosen in (given or {}).items():
        if matches(selector, name, module):
            bounds = chosen
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise FmstatsError(f"saturation of layer {name!r}: give a pair (low, high), not {bounds!r}")
    low, high = (None if b is None else float(b) for b in bounds)
    return Thresholds(zero_tol, low, high)

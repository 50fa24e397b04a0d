"""These bounds tell where outputs of an activation count as saturated, by module type.

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
from fmstats.models.selection import Selector, fitting

Bounds = tuple[float | None, float | None]

# Of those whose bounds are numbers, by the name of the operation.
BOUNDS: Mapping[str, Bounds] = {
    "relu6": (None, 6.0),
    "hardsigmoid": (0.0, 1.0),
    "sigmoid": (0.01, 0.99),
    "tanh": (-0.99, 0.99),
}
_OPERATIONS = {
    nn.ReLU6: "relu6",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
}


def bounds_of(module: nn.Module) -> Bounds:
    """Return (low, high) of a module's output by its type; None where it has no such bound."""
    for kind, operation in _OPERATIONS.items():  # ReLU6 before Hardtanh, its base class
        if isinstance(module, kind):
            return BOUNDS[operation]
    if isinstance(module, nn.Hardtanh):
        return float(module.min_val), float(module.max_val)
    return None, None


def chosen_bounds(
    modules: Mapping[str, nn.Module], of: str, given: Mapping[Selector, Bounds] | None
) -> dict[str, Bounds]:
    """Return the bounds of each module: the user's where a selector fits, else by type.

    Bounds by type are of outputs; an `of="input"` has those that the user gives.

    Raises:
        FmstatsError: a selector that fits no module, or bounds that are not a pair of numbers or
            None, the lower one first.
    """
    if given is not None and not isinstance(given, Mapping):
        raise FmstatsError(f"saturation={given!r}: give a mapping of selectors to (low, high)")
    bounds = {n: bounds_of(m) if of == "output" else (None, None) for n, m in modules.items()}
    for selector, pair in (given or {}).items():
        chosen = fitting(selector, modules, "saturation")
        shown = chosen[0] if chosen else str(selector)
        bounds |= dict.fromkeys(chosen, _checked(shown, pair))
    return bounds


def _checked(name: str, pair: object) -> Bounds:
    numbers = isinstance(pair, (tuple, list)) and all(
        bound is None or isinstance(bound, (int, float)) for bound in pair
    )
    if not (isinstance(pair, (tuple, list)) and numbers and len(pair) == 2):
        raise FmstatsError(f"saturation of layer {name!r}: give a pair (low, high), not {pair!r}")
    low, high = (None if bound is None else float(bound) for bound in pair)
    if low is not None and high is not None and low > high:
        raise FmstatsError(f"saturation of layer {name!r}: low {low:g} is above high {high:g}")
    return low, high

"""This table names the operations whose results are feature maps, as those of modules are.

Activations, pooling, interpolation, normalisation and attention are found by their name, joins
(x + y, x * y, torch.cat) where at least two operands come from layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from fmstats.models.saturation import BOUNDS, Bounds
from fmstats.operations.rules import STAYING, name_of

_ACTIVATIONS = (
    "celu elu gelu glu gumbel_softmax hardshrink hardsigmoid hardswish hardtanh leaky_relu "
    "log_softmax logsigmoid mish prelu relu relu6 rrelu selu sigmoid silu softmax softmin softplus "
    "softshrink softsign tanh tanhshrink threshold"
)
_POOLING = (
    "avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d lp_pool1d lp_pool2d "
    "lp_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d "
    "adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d fractional_max_pool3d "
    "max_unpool1d max_unpool2d max_unpool3d"
)
_INTERPOLATION = "interpolate upsample grid_sample pixel_shuffle pixel_unshuffle"
_NORMALISATION = (
    "batch_norm group_norm instance_norm layer_norm local_response_norm normalize rms_norm"
)
_ATTENTION = "scaled_dot_product_attention"

JOINS = frozenset(("add", "mul", "cat"))
OPERATIONS = JOINS | frozenset(
    " ".join((_ACTIVATIONS, _POOLING, _INTERPOLATION, _NORMALISATION, _ATTENTION)).split()
)
# Other names of theirs.
_ALIASES = {
    "concat": "cat",
    "concatenate": "cat",
    "multiply": "mul",
    "log_sigmoid": "logsigmoid",
    "_threshold": "threshold",
    "special_expit": "sigmoid",
    "special_softmax": "softmax",
    "special_log_softmax": "log_softmax",
    **{f"{name}_with_indices": name for name in _POOLING.split() if "max_pool" in name},
}


def operation_of(function: object) -> str | None:
    """Return the name of an operation whose result is a feature map, None of any other."""
    if type(function) in STAYING:
        return _operation_of_torch(function)
    return operation_named(name_of(function))


@lru_cache(maxsize=4096)
def _operation_of_torch(function: object) -> str | None:
    return operation_named(name_of(function))


def operation_named(name: str) -> str | None:
    """Return the name of an operation whose result is a feature map, given a name without aliases.

    Args:
        name: as `fmstats.operations.rules.plain_name` gives it.
    """
    name = _ALIASES.get(name, name)
    return name if name in OPERATIONS else None


def has_number(operation: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Tell whether an operation is a sum or a product with a number, as the 0 of `sum()`."""
    if operation not in ("add", "mul"):
        return False
    return any(isinstance(x, (int, float, complex)) for x in (*args[:2], kwargs.get("other")))


def bounds_of_operation(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Bounds:
    """Return where results of an operation count as saturated, as those of its modules do."""
    if name == "hardtanh":
        low, high = (
            args[place] if len(args) > place else kwargs.get(key, usual)
            for place, key, usual in ((1, "min_val", -1.0), (2, "max_val", 1.0))
        )
        return float(low), float(high)
    return BOUNDS.get(name, (None, None))

"""Count the floating-point operations of an operation: multiplications and additions.

The formulas are those of `torch.utils.flop_counter`, `products` and `algebra`. As there, what costs
a few operations an element (activations, norms, pooling, sums) is not counted; `kinds` separates
that from unknown cost. A formula belongs to an operation of one namespace, never to a name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.flop_counter import flop_registry

from fmstats.analysis.algebra import FACTORIZATIONS, TRANSFORMS
from fmstats.analysis.names import name_of
from fmstats.analysis.products import PRODUCTS
from fmstats.analysis.storages import is_nested

_OWN = PRODUCTS | FACTORIZATIONS | TRANSFORMS
_LINEAR = PRODUCTS["linear"]
# A complex product is four real ones and two sums; with the sum that collects it, eight FLOPs.
_COMPLEX = 4


def has_formula(operation: Any) -> bool:
    """Return whether `count_flops` knows an operation (an overload or higher-order operator)."""
    return name_of(operation) in _OWN or _packet(operation) in flop_registry


def count_flops(
    operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
) -> int | None:
    """Return the FLOPs of one call of an operation, given its result; None without a formula.

    What was registered with `torch.utils.flop_counter.register_flop_formula` counts as that says.
    """
    name = name_of(operation)
    formula = _OWN.get(name)
    if any(isinstance(arg, Tensor) and is_nested(arg) for arg in args) and formula is not _LINEAR:
        return None  # Formulas go by shapes, and a list of tensors has none.
    if formula is not None:
        flops = int(formula(args, out))
    else:
        registered = flop_registry.get(_packet(operation))
        if registered is None:
            return None
        flops = int(registered(*args, **kwargs, out_val=out))
    return (
        flops * _COMPLEX if "::" not in name and name not in TRANSFORMS and _complex(out) else flops
    )


def _packet(operation: Any) -> Any:
    return getattr(operation, "overloadpacket", operation)


def _complex(out: Any) -> bool:
    first = out[0] if isinstance(out, list | tuple) and out else out
    return isinstance(first, Tensor) and first.is_complex()

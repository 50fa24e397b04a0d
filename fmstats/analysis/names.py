"""Name an operation for the tables of rules, always with its namespace.

`dot` in another namespace is not PyTorch's dot product, nor is its `softmax` a softmax.
"""

from __future__ import annotations

from typing import Any

from torch._ops import OpOverload

# `prims` are the parts into which PyTorch itself takes operations of `aten`; names agree.
_OWN = frozenset(("aten", "prims"))


def name_of(operation: Any) -> str:
    """Return the name of an operation in the tables of rules.

    `addmm` of `aten.addmm.default` and of `aten.addmm_.default`, which does the same in place;
    `my::dot` of an operation of any other namespace; `higher_order::cond` of one that takes
    functions.
    """
    namespace, name = _qualified(operation)
    if namespace not in _OWN:
        return f"{namespace}::{name}"
    in_place = name.endswith("_") and not name.endswith("__")
    return name[:-1] if in_place else name


def label_of(operation: Any) -> str:
    """Return the name for readers: `mm` of `aten`, but `my.dot` of any other namespace."""
    namespace, name = _qualified(operation)
    return name if namespace == "aten" else f"{namespace}.{name}"


def _qualified(operation: Any) -> tuple[str, str]:
    name = operation._opname if isinstance(operation, OpOverload) else operation._name
    return str(operation.namespace), str(name)

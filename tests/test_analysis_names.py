"""Names of operations: by namespace, and in place as out of place."""

from __future__ import annotations

import pytest
import torch
from analysis_models import recorded, unknown_in
from torch import Tensor
from torch._higher_order_ops.flex_attention import flex_attention

from fmstats.analysis.formulas import PRODUCTS, has_formula
from fmstats.analysis.kinds import kind_of
from fmstats.analysis.names import label_of, name_of
from fmstats.analysis.records import UNKNOWN

aten = torch.ops.aten


@pytest.mark.parametrize(
    ("operation", "name", "label"),
    [
        (aten.addmm.default, "addmm", "addmm"),
        (aten.addmm.out, "addmm", "addmm"),
        (aten.addmm_.default, "addmm", "addmm_"),
        (aten.__lshift__.Scalar, "__lshift__", "__lshift__"),
        (torch.ops.prims.add.default, "add", "prims.add"),
        (torch.ops.quantized.linear.default, "quantized::linear", "quantized.linear"),
        (torch.ops._c10d_functional.all_reduce_.default, *["_c10d_functional::all_reduce_"] * 2),
        (flex_attention, "higher_order::flex_attention", "higher_order.flex_attention"),
    ],
)
def test_names(operation: object, name: str, label: str) -> None:
    assert (name_of(operation), label_of(operation)) == (name, label.replace("::", "."))


BINARY = sorted(name for name in PRODUCTS if "::" not in name)


@pytest.fixture(scope="module")
def namesakes() -> torch.library.Library:
    """Operations of another namespace that are called as those of `aten` that have rules."""
    library = torch.library.Library("fmstats_namesakes", "DEF")
    for name in (*BINARY, "mm", "softmax", "embedding", "relu", "view", "cat"):
        if not hasattr(torch.ops.fmstats_namesakes, name):
            library.define(f"{name}(Tensor a, Tensor b) -> Tensor")
            library.impl(name, lambda a, b: a + b, "CompositeExplicitAutograd")
    return library


def test_a_namesake_has_no_rule(namesakes: torch.library.Library) -> None:
    x = torch.ones(4, 4)
    for name in (*BINARY, "mm", "softmax", "embedding", "relu", "view", "cat"):
        operation = getattr(torch.ops.fmstats_namesakes, name).default
        assert not has_formula(operation), name
        assert kind_of(operation) == UNKNOWN, name
        seen = recorded(operation, x, x)
        assert (seen.flops, unknown_in(seen)) == (0, [f"fmstats_namesakes.{name}"])
        # Of the table of an embedding only what is picked is read; of any other operand, all.
        assert seen.work["model"].traffic == 3 * 64, name


def test_a_formula_can_be_registered() -> None:
    from torch.utils.flop_counter import flop_registry, register_flop_formula

    @torch.library.custom_op("fmstats_names::product", mutates_args=())
    def product(a: Tensor, b: Tensor) -> Tensor:
        return a @ b

    operation = torch.ops.fmstats_names.product
    assert unknown_in(recorded(product, torch.ones(2, 3), torch.ones(3, 4)))
    register_flop_formula(operation)(lambda a, b, out_shape=None: 2 * a[0] * a[1] * b[1])
    try:
        for dtype in (torch.float32, torch.complex64):  # it counts as it says
            a, b = torch.ones(2, 3, dtype=dtype), torch.ones(3, 4, dtype=dtype)
            assert recorded(product, a, b).flops == 48
    finally:
        del flop_registry[operation]

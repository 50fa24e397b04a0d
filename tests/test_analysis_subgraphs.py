"""Operations that take functions: what happens inside these is counted."""

from __future__ import annotations

import pytest
import torch
from analysis_models import flops_of, recorded, unknown_in
from torch import Tensor, nn
from torch._higher_order_ops.flex_attention import flex_attention
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from fmstats.analysis.recorder import Recorder

ops = torch.ops.higher_order
X, W = torch.ones(3, 4), torch.ones(4, 4)
PRODUCT = 2 * 3 * 4 * 4


def once(x: Tensor) -> tuple[Tensor]:
    return (x @ W,)


def twice(x: Tensor) -> tuple[Tensor]:
    return (x @ W @ W,)


@pytest.mark.parametrize("value", [True, False])
def test_the_branch_that_runs_counts(value: bool) -> None:
    seen = recorded(ops.cond, torch.tensor(value), once, twice, (X,))
    assert seen.flops == PRODUCT * (1 if value else 2)
    assert unknown_in(seen) == []


@pytest.mark.parametrize("branches", [(once, twice), (twice, once)])
def test_where_the_condition_is_fake_the_dearer_branch_counts(branches) -> None:
    recorder = Recorder("model")
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        x, condition = mode.from_tensor(X), torch.ones((), dtype=torch.bool)
        with recorder:
            (out,) = ops.cond(condition, *branches, (x,))
    assert tuple(out.shape) == (3, 4)
    assert (recorder.flops, unknown_in(recorder)) == (2 * PRODUCT, [])
    assert recorder.work["model"].made == 2 * 12  # of the branch that counts, once


def test_each_turn_of_a_loop_counts() -> None:
    def below(i: Tensor, x: Tensor) -> Tensor:
        return i < 3

    def step(i: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return i + 1, x @ W

    assert flops_of(ops.while_loop, below, step, (torch.tensor(0), X), ()) == 3 * PRODUCT
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, Recorder("model"):
        start = (mode.from_tensor(torch.tensor(0)), mode.from_tensor(X))
        with pytest.raises(DataDependentOutputException, match="while_loop"):
            ops.while_loop(below, step, start, ())


def test_loops_over_a_dim() -> None:
    from torch._higher_order_ops.map import map as map_each
    from torch._higher_order_ops.scan import scan

    rows = torch.ones(5, 3, 4)
    assert recorded(lambda: map_each(lambda x: x @ W, rows)).flops == 5 * PRODUCT
    total = recorded(lambda: scan(lambda c, x: (c + x @ W, c.clone()), X, rows))
    assert total.flops == 5 * PRODUCT


class Frozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            y = self.layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            return self.layer(y)


def test_regions_of_an_exported_program() -> None:
    exported = torch.export.export(Frozen(), (X,)).module()
    regions = {str(n.target) for n in exported.graph.nodes if "wrap" in str(n.target)}
    assert regions == {"wrap_with_set_grad_enabled", "wrap_with_autocast"}
    seen = recorded(exported, X)
    assert (seen.flops, unknown_in(seen)) == (2 * PRODUCT, [])


def test_what_has_a_formula_is_one_operation() -> None:
    q = torch.ones(2, 2, 16, 8)
    args = (q, q, q, lambda score, b, h, i, j: score, _whole(q), 1.0, {})
    assert flops_of(flex_attention, *args) == 2 * 2 * 2 * 16 * 16 * 16


def _whole(q: Tensor) -> tuple[object, ...]:
    from torch.nn.attention.flex_attention import create_block_mask

    def everywhere(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return i >= 0

    mask = create_block_mask(everywhere, None, None, q.shape[-2], q.shape[-2], device="cpu")
    return mask.as_tuple()

"""What a graph of a tracked model does for each layer, beside measuring: as little as possible."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import fmstats

dynamo = pytest.importorskip("torch._dynamo")
pytestmark = pytest.mark.usefixtures("fresh_graphs")

X = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5)).eval()


def explain(model: nn.Module) -> Any:
    with torch.no_grad():
        return dynamo.explain(model)(X)


def test_all_hooks_have_one_tensor_that_orders_them() -> None:
    """Else Dynamo guards that they have the same one: by Python, for each hook in each pass."""
    model = make_model()
    trackers = [fmstats.track(model) for _ in range(2)]
    made = explain(model)
    alike = [guard.name for guard in made.out_guards if guard.create_fn_name() == "DUPLICATE_INPUT"]
    names = [name if isinstance(name, str) else name() for name in alike]  # by the version
    assert [name for name in names if name.startswith("L[")] == []
    (graph,) = made.graphs
    values = (n.meta.get("example_value") for n in graph.graph.nodes if n.op == "placeholder")
    assert [x.dtype for x in values].count(torch.int64) == 1
    assert [len(tracker.stats()) for tracker in trackers] == [3, 3]


@pytest.mark.parametrize("of", ["output", "input", "grad_output"])
def test_hooks_of_layers_have_no_dict_to_be_guarded(of: str) -> None:
    """Dynamo looks for what a `__dict__` could hide, for each hook in each pass."""
    tracker = fmstats.track(make_model(), of=of)
    assert len(tracker.hooks) == 3
    assert not any(hasattr(hook, "__dict__") for hook in tracker.hooks)

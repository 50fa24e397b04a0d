"""Graphs hand the inputs of a model to the hook that reads which of their positions count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fmstats.graph_ops.library import NO_CUDA_GRAPHS, library, run_as_is
from fmstats.graph_ops.targets import find_target

# names: of the inputs, or their places among those given so; the hook reads which positions count.
library.define(
    "begin_positions(Tensor[] inputs, Tensor(a!) op_token, str names, int target) -> ()",
    tags=NO_CUDA_GRAPHS,
)


def hand_inputs(
    args: Sequence[object], kwargs: Mapping[str, object], op_token: Tensor, target: int
) -> None:
    """Hand the inputs of a pass to the hook that reads which of their positions count."""
    names, inputs = [], []
    for name, x in {**{str(place): x for place, x in enumerate(args)}, **kwargs}.items():
        if isinstance(x, Tensor):
            names.append(name)
            inputs.append(x.detach() if x.requires_grad else x)
    torch.ops.fmstats.begin_positions(inputs, op_token, ",".join(names), target)


@run_as_is
def _begin_positions(inputs: list[Tensor], op_token: Tensor, names: str, target: int) -> None:
    hook: Any = find_target(target)
    if hook is not None:
        hook.begin_positions(*as_given(inputs, names))


def as_given(inputs: Sequence[Tensor], names: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the inputs of a pass by place, None for those that are no tensors, and by name."""
    named = dict(zip(names.split(","), inputs, strict=True)) if inputs else {}
    places = [int(name) for name in named if name.isdecimal()]
    args = tuple(named.get(str(place)) for place in range(max(places, default=-1) + 1))
    return args, {name: x for name, x in named.items() if not name.isdecimal()}


library.impl("begin_positions", _begin_positions, "CompositeExplicitAutograd")

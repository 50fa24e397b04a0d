"""`Changes` tells by how much a step of the optimizer changes parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Changes:
    """It holds copies of parameters from before a step until what the step has changed is read.

    The kernels of torch's own optimizers, which take many tensors at a time, copy and subtract.

    Args:
        parameters: what this process holds of them, before the step.

    Attributes:
        before: the copies, until `since` is called.
    """

    @torch.no_grad()
    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.before = [torch.empty_like(parameter) for parameter in parameters]
        if self.before:
            torch._foreach_copy_(self.before, list(parameters))

    @torch.no_grad()
    def since(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Return what is there now less what was there before, in the dtypes of the parameters."""
        changes, self.before = self.before, []
        if changes:
            torch._foreach_neg_(changes)
            torch._foreach_add_(changes, list(parameters))
        return changes

"""`read_gradients` reads the gradients of a step as they are without the scale of a scaler."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from fmstats.parameters.choice import ChosenParameter, local_part


@torch.no_grad()
def read_gradients(
    parameters: Iterable[ChosenParameter], optimizer: torch.optim.Optimizer | None
) -> list[tuple[str, Tensor]]:
    """Return what this process holds of each gradient that there is, with the parameter's name.

    Args:
        parameters: whose gradients.
        optimizer: it has just made a step; None: no optimizer has.
    """
    factor = _find_factor(optimizer)
    read = []
    for chosen in parameters:
        if chosen.parameter.grad is not None:
            gradient = local_part(chosen.parameter.grad)
            if factor is not None:
                gradient = gradient * factor.to(gradient.device, non_blocking=True)
            read.append((chosen.name, gradient))
    return read


def _find_factor(optimizer: torch.optim.Optimizer | None) -> Tensor | None:
    """Return what unscales the gradients, on the device, so that nobody waits for it.

    A `GradScaler` gives a fused optimizer the scale and says on the device whether the step is to
    be skipped. Only a step that is not skipped has unscaled the gradients in place.
    """
    scale = getattr(optimizer, "grad_scale", None)
    skipped = getattr(optimizer, "found_inf", None)
    if not (isinstance(scale, Tensor) and isinstance(skipped, Tensor)):
        return None
    return torch.where(skipped != 0, scale.reciprocal(), torch.ones_like(scale)).reshape(())

"""Make a layer faulty in place, for planted_faults.py."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def scale(module: nn.Module, factor: float) -> None:
    module.weight.mul_(factor)


def set_bias(module: nn.Module, value: float, channels: int | None = None) -> None:
    module.bias[:channels] = value


def collapse(module: nn.Module) -> None:
    module.weight.mul_(1e-5)
    module.bias.copy_(torch.linspace(0.5, 1.5, len(module.bias)))


def clear(module: nn.Module, bias: bool) -> None:
    module.weight.zero_()
    if bias and module.bias is not None:
        module.bias.zero_()


def spoil(module: nn.Module, value: float) -> None:
    module.weight.view(-1)[0] = value


def make_alike(module: nn.Module) -> None:
    module.weight.copy_(module.weight[:1].expand_as(module.weight))
    if module.bias is not None:
        module.bias.fill_(float(module.bias[0]))


def blow_up(module: nn.Module) -> None:
    dim = 1 if type(module).__name__ == "Conv1D" or isinstance(module, nn.ConvTranspose2d) else 0
    module.weight.select(dim, 0).mul_(1000)


def set_variance(module: nn.Module, factor: float) -> None:
    module.running_var.mul_(factor)


class Root(nn.Module):
    """Takes a square root, also of numbers below 0."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sqrt()


class Mean(nn.Module):
    """Reduces features to their mean."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.7 + 1e-4 * x

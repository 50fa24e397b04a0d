"""Scales as torch.ao's observers make them, for bench_calibration.py to compare with."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Observer = Any  # torch.ao has no types
Observers = dict[str, Observer]


def _kind(name: str) -> Any:
    return getattr(importlib.import_module("torch.ao.quantization.observer"), name)


_SYMMETRIC = {"dtype": torch.qint8, "qscheme": torch.per_tensor_symmetric}
_AFFINE = {"dtype": torch.quint8, "qscheme": torch.per_tensor_affine}
_OF_CHANNELS = {"dtype": torch.qint8, "qscheme": torch.per_channel_symmetric}

# By the scheme, the method and `per` of ours that they stand beside; given the channel dim.
OBSERVERS: Mapping[tuple[str, str, str], Callable[[int], Observer]] = {
    ("int8", "absmax", "tensor"): lambda dim: _kind("MinMaxObserver")(**_SYMMETRIC),
    ("uint8", "absmax", "tensor"): lambda dim: _kind("MinMaxObserver")(**_AFFINE),
    ("int8", "absmax", "channel"): lambda dim: _kind("PerChannelMinMaxObserver")(
        ch_axis=dim, **_OF_CHANNELS
    ),
    ("int8", "mse", "tensor"): lambda dim: _kind("HistogramObserver")(**_SYMMETRIC),
    ("uint8", "mse", "tensor"): lambda dim: _kind("HistogramObserver")(**_AFFINE),
}


@contextlib.contextmanager
def hooked(
    modules: Mapping[str, nn.Module], change: Callable[[str, Tensor], Tensor | None]
) -> Iterator[None]:
    """Within it, what modules are given passes through `change`, unless that gives None."""

    def before(name: str, _: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        changed = change(name, given[0])
        return None if changed is None else (changed, *given[1:])

    with contextlib.ExitStack() as hooks:
        for name, module in modules.items():
            handle = module.register_forward_pre_hook(partial(before, name))
            hooks.callback(handle.remove)
        yield


@contextlib.contextmanager
def observe(
    modules: Mapping[str, nn.Module], make: Callable[[int], Observer]
) -> Iterator[Observers]:
    """Within it, each module's input is shown to an observer of its own."""
    observers: Observers = {}

    def see(name: str, x: Tensor) -> None:
        if name not in observers:
            observers[name] = make(1 if isinstance(modules[name], nn.Conv2d) else x.dim() - 1)
        observers[name](x.detach())

    with hooked(modules, see):
        yield observers


def code_as(observers: Observers) -> Callable[[str, Tensor], Tensor]:
    """Return what puts a module's input through the codes of its observer."""
    found = {name: observer.calculate_qparams() for name, observer in observers.items()}

    def code(name: str, x: Tensor) -> Tensor:
        observer, (scale, zero_point) = observers[name], found[name]
        ends = observer.quant_min, observer.quant_max
        if scale.numel() == 1:
            return torch.fake_quantize_per_tensor_affine(x, float(scale), int(zero_point), *ends)
        dim = observer.ch_axis
        return torch.fake_quantize_per_channel_affine(x, scale, zero_point.int(), dim, *ends)

    return code


def bytes_of(observers: Observers) -> int:
    """Return the bytes that observers keep between batches."""
    return sum(b.nbytes for observer in observers.values() for b in observer.buffers())

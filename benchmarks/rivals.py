"""Define every rival that fmstats is compared with.

Rivals measure a tensor over all dims but the channel's, and are told which dim that is: finding it
costs them nothing. Apart from welford-torch and the observers they forget one batch at the next;
none counts NaN or infinities, and none adds up in more than float32. All of this favours them.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fmstats.models.output_tensors import first_tensor

# Of a tensor and its channel dim: numbers by the name that `fmstats.ChannelStats` has for them.
Measure = Callable[[Tensor, int], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Rival:
    """Describes one way to get such numbers.

    Attributes:
        name: what tables say.
        about: what it is, for people.
        start: gives what measures the tensors of one layer; None if it works on models only.
        watch: runs a model and measures all its layers; None if it works on tensors.
        package: what must be importable for it.
        plain: the name of the rival that it is the compiled form of.
        slow: whether it is left out of quick runs and given few rounds.
        per_tensor: whether its numbers are of the whole tensor, not of each channel.
    """

    name: str
    about: str
    start: Callable[[], Measure] | None = None
    watch: Callable[[nn.Module, Tensor], object] | None = None
    package: str = "torch"
    plain: str | None = None
    slow: bool = False
    per_tensor: bool = False

    def on_a_layer(self) -> Measure:
        """Return what measures the tensors of one layer."""
        assert self.start is not None, f"{self.name} works on models only"
        return self.start()

    def why_not(self) -> str | None:
        """Return why it cannot be measured here, or None if it can."""
        try:
            found = importlib.util.find_spec(self.package)
        except ModuleNotFoundError:  # a parent package is missing
            found = None
        if found is None:
            return "not installed"
        compilers = (os.environ.get("CXX"), "g++", "clang++")
        if self.plain and not any(shutil.which(c) for c in compilers if c):
            return "no C++ compiler"
        return None


def _over(x: Tensor, dim: int) -> list[int]:
    return [d for d in range(x.dim()) if d != dim % x.dim()]


def seed(x: Tensor, dim: int) -> Mapping[str, Tensor]:
    """Measure with the expressions that people write in hooks: five passes, two temporaries."""
    over = _over(x, dim)
    return {
        "mean": x.mean(over),
        "std": x.std(over),
        "sparsity": (x == 0).float().mean(over),
        "max": x.amax(over),
        "min": x.amin(over),
    }


def var_mean(x: Tensor, dim: int) -> Mapping[str, Tensor]:
    """Measure the same numbers with care: mean and variance at once, zeros as integers."""
    over = _over(x, dim)
    var, mean = torch.var_mean(x, over)
    return {
        "mean": mean,
        "var": var,
        "zeros": (x == 0).sum(over),
        "max": x.amax(over),
        "min": x.amin(over),
    }


@functools.cache
def compiled(measure: Measure, dynamic: bool | None = None) -> Measure:
    """Compile a measure with `torch.compile`, with a variant for every shape that it meets."""
    config: Any = importlib.import_module("torch._dynamo").config
    # By default it falls back to running uncompiled after eight shapes: a model has more layers.
    config.recompile_limit = 4096
    if hasattr(config, "accumulated_recompile_limit"):
        config.accumulated_recompile_limit = 1 << 20
    result: Measure = torch.compile(measure, dynamic=dynamic)
    return result


def _welford() -> Measure:
    tally = importlib.import_module("welford_torch").Welford()

    def measure(x: Tensor, dim: int) -> Mapping[str, Tensor]:
        tally.add_all(x.movedim(dim, -1).reshape(-1, x.shape[dim]))
        return {"mean": tally.mean, "var": tally.var_s}

    return measure


def _observer_per_tensor() -> Measure:
    observer = importlib.import_module("torch.ao.quantization.observer").MinMaxObserver()

    def measure(x: Tensor, dim: int) -> Mapping[str, Tensor]:
        observer(x)
        return {"min": observer.min_val, "max": observer.max_val}

    return measure


def _observer_per_channel() -> Measure:
    kind = importlib.import_module("torch.ao.quantization.observer").PerChannelMinMaxObserver
    observers: dict[int, Any] = {}  # the axis is set when one is made

    def measure(x: Tensor, dim: int) -> Mapping[str, Tensor]:
        if dim not in observers:
            observers[dim] = kind(ch_axis=dim)
        observer = observers[dim]
        observer(x)
        return {"min": observer.min_val, "max": observer.max_val}

    return measure


def _torchlens(model: nn.Module, x: Tensor) -> object:
    """Keep every activation and compute no statistic, which is the cost of access alone."""
    return importlib.import_module("torchlens").trace(model, x)


_COMPILED = (("", None), (", static", False))
RIVALS = {
    rival.name: rival
    for rival in (
        Rival("seed", "mean, std, (x == 0).float().mean, amax, amin", lambda: seed),
        Rival("var_mean", "var_mean, (x == 0).sum, amax, amin", lambda: var_mean),
        *(
            Rival(
                f"{plain.__name__} compiled{suffix}",
                f"torch.compile({plain.__name__}, dynamic={dynamic})",
                functools.partial(compiled, plain, dynamic),
                plain=plain.__name__,
            )
            for plain in (seed, var_mean)
            for suffix, dynamic in _COMPILED
        ),
        Rival(
            "ao per tensor",
            "torch.ao MinMaxObserver: min and max of all channels together",
            _observer_per_tensor,
            package="torch.ao",
            per_tensor=True,
        ),
        Rival(
            "ao per channel",
            "torch.ao PerChannelMinMaxObserver: min and max",
            _observer_per_channel,
            package="torch.ao",
        ),
        Rival(
            "welford-torch",
            "Welford.add_all: running mean and variance",
            _welford,
            package="welford_torch",
            slow=True,
        ),
        Rival(
            "TorchLens",
            "trace(): keeps every activation, computes no statistic",
            watch=_torchlens,
            package="torchlens",
            slow=True,
        ),
    )
}


def do_nothing(module: nn.Module, args: object, output: object) -> None:
    """Return nothing: the empty hook shows what PyTorch asks for calling any hook at all."""


def read_once(module: nn.Module, args: object, output: object) -> None:
    """Read the output once and keep nothing of it: the least that any statistic costs."""
    x = first_tensor(output)
    assert x is not None
    x.sum()


def attach(module: nn.Module, rival: Rival, dim: int) -> None:
    """Hook a rival to a module whose output has its channels in `dim`."""
    measure = rival.on_a_layer()
    seen: list[Mapping[str, Tensor]] = [{}]

    def hook(module: nn.Module, args: object, output: Tensor) -> None:
        seen[0] = measure(output, dim)

    module.register_forward_hook(hook)

"""Plant faults in healthy networks, and say what counts as seeing each.

A kind says in which layers of a network it can be, changes a copy of it, and names the rules of
`diagnose` that report it and the layers that they may name: bench_diagnose.py.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from fault_changes import (
    Mean,
    Root,
    blow_up,
    clear,
    collapse,
    make_alike,
    scale,
    set_bias,
    set_variance,
    spoil,
)
from torch import Tensor, nn

WEIGHTED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
RECTIFIERS = (nn.ReLU, nn.ReLU6)
BOUNDED = (nn.Tanh, nn.Sigmoid, nn.Hardsigmoid)


@dataclass(frozen=True)
class Place:
    """Says where a fault is.

    Attributes:
        layers: any of which a finding may name: the one that was changed, or the one behind it
            where that alone shows it.
        change: what makes the fault, of a copy of the network.
        feed: what makes it of the batches, None for nothing.
    """

    layers: tuple[str, ...]
    change: Callable[[nn.Module], None] | None = None
    feed: Callable[[Tensor], Tensor] | None = None
    half: bool = False


@dataclass(frozen=True)
class Kind:
    """Describes a kind of fault: the rules that report it, and where it can be in a network."""

    rules: tuple[str, ...]
    places: Callable[[Network], list[Place]]


class Network:
    """Holds a healthy network and the names of its layers in the order of execution."""

    def __init__(self, model: nn.Module, batches: Sequence[Tensor], order: Sequence[str]) -> None:
        self.model, self.batches = model, batches
        modules = dict(model.named_modules())
        self.layers = [(name, modules[name]) for name in order]
        weights = [id(getattr(module, "weight", module)) for module in modules.values()]
        self.shared = {weight for weight in weights if weights.count(weight) > 1}

    def of(self, *types: type[nn.Module]) -> list[str]:
        """Return the layers of these types."""
        return [
            name
            for name, module in self.layers
            if isinstance(module, types) and id(getattr(module, "weight", None)) not in self.shared
        ]

    @property
    def weighted(self) -> list[str]:
        """Return the Linear layers and convolutions that share their weights with no other."""
        return [
            name
            for name, module in self.layers
            if _is_weighted(module) and id(module.weight) not in self.shared
        ]

    def norms(self, name: str = "Norm") -> list[str]:
        """Return the layers that normalise."""
        return [n for n, module in self.layers if name in type(module).__name__]

    def before(self, *types: type[nn.Module]) -> list[tuple[str, str]]:
        """Return the layers with a bias, each with the activation that runs right after it."""
        return [
            (a, b)
            for (a, first), (b, second) in zip(self.layers[:-1], self.layers[1:], strict=True)
            if isinstance(second, types) and getattr(first, "bias", None) is not None
        ]


def _is_weighted(module: nn.Module) -> bool:
    return isinstance(module, WEIGHTED) or type(module).__name__ == "Conv1D"


def changing(name: str, change: Callable[[nn.Module], None]) -> Callable[[nn.Module], None]:
    """Apply `change` to the layer `name`, without gradients."""

    @torch.no_grad()
    def apply(model: nn.Module) -> None:
        change(model.get_submodule(name))

    return apply


def on_each(names: Sequence[str], change: Callable[[nn.Module], None]) -> list[Place]:
    """Return the same change of any one of these layers."""
    return [Place((name,), changing(name, change)) for name in names]


def _replaced(names: Sequence[str], made: Callable[[], nn.Module]) -> list[Place]:
    return [
        Place((name,), lambda model, name=name: model.set_submodule(name, made())) for name in names
    ]


def _wide(network: Network, least: int = 8) -> list[str]:
    return [
        name
        for name, module in network.layers
        if isinstance(module, WEIGHTED)
        and not isinstance(module, nn.ConvTranspose2d)
        and getattr(module, "groups", 1) == 1
        and len(module.weight) >= least
    ]


def _behind(network: Network, change: Callable[[nn.Module], None], *types: type) -> list[Place]:
    return [Place((a, b), changing(a, change)) for a, b in network.before(*types)]


def _in_a_row(network: Network, number: int, factor: float) -> list[Place]:
    """Return layers that run one after the other, in networks that are a plain chain of them."""
    names = network.weighted
    # Behind a bounded activation nothing grows further.
    chain = (
        not network.norms()
        and not network.of(*BOUNDED)
        and all(
            _is_weighted(module) or not list(module.parameters()) for _, module in network.layers
        )
    )
    if not chain or len(names) < number + 2:
        return []

    @torch.no_grad()
    def apply(model: nn.Module, chosen: Sequence[str]) -> None:
        for name in chosen:
            scale(model.get_submodule(name), factor)

    order = [name for name, _ in network.layers]
    places = []
    for start in range(1, len(names) - number):
        chosen = names[start : start + number]
        first, last = order.index(chosen[0]), order.index(chosen[-1])
        # The activation behind a layer, too, is a place in the middle of what grows.
        places.append(Place(tuple(order[first : last + 2]), partial(apply, chosen=chosen)))
    return places


def _unprepared(network: Network) -> list[Place]:
    if not network.norms() or not network.batches[0].is_floating_point():
        return []
    first = tuple(name for name, _ in network.layers[:2])
    return [Place(first, None, lambda x: 255 * (x + 1))]


def _with_bias(network: Network) -> list[str]:
    return [n for n, m in network.layers if isinstance(m, WEIGHTED) and m.bias is not None]


def _overflowing(network: Network) -> list[Place]:
    places = on_each(network.of(*WEIGHTED), partial(scale, factor=1e6))
    return [Place(place.layers, place.change, half=True) for place in places]


SHRUNK = ("vanishing", "collapsed", "constant")
SILENT = ("sparse", "never-active", "dead")
SATURATED = ("saturated-low", "saturated-high", "saturated-both")

# The kinds that thresholds were chosen on.
KINDS: Mapping[str, Kind] = {
    "weights x 500": Kind(
        ("exploding",), lambda n: on_each(n.weighted, partial(scale, factor=500))
    ),
    "weights / 500": Kind(SHRUNK, lambda n: on_each(n.weighted, partial(scale, factor=1 / 500))),
    "gain of a normalisation x 300": Kind(
        ("exploding",), lambda n: on_each(n.norms(), partial(scale, factor=300))
    ),
    "gain of 50 in each of three layers": Kind(("exploding",), lambda n: _in_a_row(n, 3, 50)),
    "x 1024 over ten layers": Kind(("exploding",), lambda n: _in_a_row(n, 10, 2)),
    "three channels dead behind a bias of -1e4": Kind(
        SILENT, lambda n: _behind(n, partial(set_bias, value=-1e4, channels=3), *RECTIFIERS)
    ),
    "every bias -9 in front of a ReLU": Kind(
        SILENT, lambda n: _behind(n, partial(set_bias, value=-9), *RECTIFIERS)
    ),
    "weights and bias 0": Kind(SILENT, lambda n: on_each(n.weighted, partial(clear, bias=True))),
    "weights 0": Kind(("constant",), lambda n: on_each(_with_bias(n), partial(clear, bias=False))),
    "NaN in a weight": Kind(
        ("non-finite",), lambda n: on_each(n.weighted, partial(spoil, value=float("nan")))
    ),
    "float16 overflows": Kind(("non-finite",), _overflowing),
    "weights x 100 in front of a bounded activation": Kind(
        ("exploding", *SATURATED),
        lambda n: _behind(n, partial(scale, factor=100), *BOUNDED, nn.ReLU6),
    ),
    "every neuron alike": Kind(("identical",), lambda n: on_each(_wide(n), make_alike)),
    "representation collapsed to its mean": Kind(
        SHRUNK, lambda n: on_each(_with_bias(n), collapse)
    ),
    "running variance / 1e6": Kind(
        ("exploding",), lambda n: on_each(n.norms("BatchNorm"), partial(set_variance, factor=1e-6))
    ),
    "input not normalised": Kind(("exploding",), _unprepared),
    "one channel x 1000": Kind(("outlier", "exploding"), lambda n: on_each(_wide(n), blow_up)),
}

# Kinds that no threshold was chosen on.
HELD_OUT: Mapping[str, Kind] = {
    "weights x 150": Kind(
        ("exploding",), lambda n: on_each(n.weighted, partial(scale, factor=150))
    ),
    "weights / 5000": Kind(SHRUNK, lambda n: on_each(n.weighted, partial(scale, factor=1 / 5000))),
    "gain of a normalisation x 100": Kind(
        ("exploding",), lambda n: on_each(n.norms(), partial(scale, factor=100))
    ),
    "gain of a normalisation / 1000": Kind(
        SHRUNK, lambda n: on_each(n.norms(), partial(scale, factor=1e-3))
    ),
    "gain of 50 over three layers": Kind(("exploding",), lambda n: _in_a_row(n, 3, 50 ** (1 / 3))),
    "/ 6561 over eight layers": Kind(SHRUNK, lambda n: _in_a_row(n, 8, 1 / 3)),
    "bias of 1000": Kind(
        ("exploding", "collapsed"), lambda n: on_each(_with_bias(n), partial(set_bias, value=1000))
    ),
    "infinity in a weight": Kind(
        ("non-finite",), lambda n: on_each(n.weighted, partial(spoil, value=float("inf")))
    ),
    "root of negative numbers": Kind(
        ("non-finite",), lambda n: _replaced(n.of(nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.GELU), Root)
    ),
    "features that are all alike": Kind(
        SHRUNK, lambda n: _replaced(n.of(nn.ReLU, nn.Tanh, nn.Sigmoid, nn.ELU), Mean)
    ),
    "running variance x 1e6": Kind(
        SHRUNK, lambda n: on_each(n.norms("BatchNorm"), partial(set_variance, factor=1e6))
    ),
    "bias of 20 in front of a bounded activation": Kind(
        SATURATED, lambda n: _behind(n, partial(set_bias, value=20), *BOUNDED)
    ),
    "embedding x 1000": Kind(
        ("exploding",), lambda n: on_each(n.of(nn.Embedding), partial(scale, factor=1000))
    ),
}


def plant(
    network: Network, kinds: Mapping[str, Kind], seed: str
) -> Iterator[tuple[str, Kind, Place, nn.Module]]:
    """Plant one fault of each kind that can be in this network, at a place drawn by the seed."""
    for name, kind in kinds.items():
        places = kind.places(network)
        if not places:
            continue
        place = random.Random(f"{seed} {name}").choice(places)
        model = copy.deepcopy(network.model)
        if place.change is not None:
            place.change(model)
        yield name, kind, place, model.half() if place.half else model

"""`choose_parameters` finds the parameters to measure, their names and their channels."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Union

import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from fmstats.backends.base import why_unmeasurable
from fmstats.errors import FmstatsError, list_closest
from fmstats.models.selection import has_name
from fmstats.models.wrappers import named_modules

Selector = Union[str, "re.Pattern[str]", Callable[[str, nn.Parameter], bool]]
Selection = Union[Selector, Sequence[Selector], None]  # noqa: UP007  # holds a string

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_TABLES = (nn.Embedding, nn.EmbeddingBag)


@dataclass(frozen=True, eq=False)
class ChosenParameter:
    """Holds a parameter to measure.

    Attributes:
        name: without the prefixes of wrappers; of a tied one, the first.
        parameter: itself.
        channel_dim: the dim of the output channels; None where all is one channel.
        frozen: whether no step is to change it, see `is_frozen`.
    """

    name: str
    parameter: nn.Parameter
    channel_dim: int | None
    frozen: bool


@dataclass(frozen=True)
class LeftOut:
    """Tells of a chosen parameter that cannot be measured, and why not."""

    name: str
    reason: str


def choose_parameters(
    model: nn.Module,
    include: Selection,
    exclude: Selection,
    optimizer: torch.optim.Optimizer | None,
) -> tuple[list[ChosenParameter], list[LeftOut]]:
    """Return the parameters to measure in the order of registration, and those that cannot be.

    Args:
        model: whose they are. Tied ones come once.
        include: names, globs, regular expressions or functions of (name, parameter), or a list of
            these; None: all.
        exclude: the same, of those to leave out.
        optimizer: what steps; a parameter that it does not have is frozen.

    Raises:
        FmstatsError: a selector that matches nothing or is of no known kind, nothing left, or an
            optimizer that has none of the parameters.
    """
    found = list(_list_parameters(model))
    chosen = _choose(found, include, exclude)
    stepped = list_stepped(optimizer)
    if stepped is not None and not any(id(p) in stepped for _, p, _ in found):
        raise FmstatsError(
            f"the optimizer ({type(optimizer).__name__}) has none of the parameters of "
            f"{type(model).__name__}: give the one that trains it, or none to measure by measure()"
        )
    measured, left_out = [], []
    for name, parameter, module in chosen:
        reason = _why_not(parameter)
        if reason is not None:
            left_out.append(LeftOut(name, reason))
            continue
        dim = _channel_dim(module, parameter)
        measured.append(ChosenParameter(name, parameter, dim, is_frozen(parameter, stepped)))
    return measured, left_out


_Found = tuple[str, nn.Parameter, nn.Module]


def _list_parameters(model: nn.Module) -> Iterator[_Found]:
    """Yield each parameter once, with its name and its module."""
    seen: set[int] = set()
    for path, module in named_modules(model).items():
        own = dict(module._parameters)
        if is_parametrized(module):
            kept = module.get_submodule("parametrizations").named_parameters()
            own |= {f"parametrizations.{name}": parameter for name, parameter in kept}
        for name, parameter in own.items():
            if parameter is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                yield f"{path}.{name}" if path else name, parameter, module


def list_stepped(optimizer: torch.optim.Optimizer | None) -> set[int] | None:
    """Return the ids of the parameters that an optimizer has now; None without an optimizer."""
    if optimizer is None:
        return None
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def is_frozen(parameter: Tensor, stepped: set[int] | None) -> bool:
    """Return whether a parameter needs no gradient, or is not of those that are stepped."""
    return not parameter.requires_grad or (stepped is not None and id(parameter) not in stepped)


def _choose(found: list[_Found], include: Selection, exclude: Selection) -> list[_Found]:
    chosen = found
    if include is not None:
        names = {name for s in _listed(include) for name in _fitting(s, found, "include")}
        chosen = [each for each in found if each[0] in names]
    names = {name for s in _listed(exclude) for name in _fitting(s, found, "exclude")}
    chosen = [each for each in chosen if each[0] not in names]
    if not chosen:
        raise FmstatsError(
            f"no parameter to track: include={include!r} and exclude={exclude!r} leave none of "
            f"{len(found)}"
        )
    return chosen


def _listed(selection: Selection) -> Sequence[Selector]:
    if selection is None:
        return ()
    if isinstance(selection, str | re.Pattern) or callable(selection):
        return (selection,)
    return tuple(selection)


def _fitting(selector: Selector, found: list[_Found], option: str) -> list[str]:
    if isinstance(selector, str):
        names = [name for name, _, _ in found if has_name(selector, name)]
    elif isinstance(selector, re.Pattern):
        names = [name for name, _, _ in found if selector.search(name)]
    elif callable(selector):
        names = [name for name, parameter, _ in found if selector(name, parameter)]
    else:
        raise FmstatsError(
            f"{option}: cannot select parameters by {selector!r}: give a name, a glob, a compiled "
            "regex, a function of (name, parameter), or a list of these"
        )
    if not names:
        known = [name for name, _, _ in found]
        near = f"; closest: {list_closest(selector, known)}" if isinstance(selector, str) else ""
        raise FmstatsError(f"{option}: {selector!r} matches none of the parameters{near}")
    return names


def _why_not(parameter: Tensor) -> str | None:
    """Return why a parameter has no statistic, as in "is int8"; None if it has."""
    if is_lazy(parameter):
        return "has no shape before the first forward pass"
    return why_unmeasurable(local_part(parameter))


def local_part(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor: all of it, or its part of a DTensor."""
    to_local = getattr(tensor, "to_local", None)
    if to_local is None:
        return tensor.detach()
    part: Tensor = to_local().detach()
    return part


def _channel_dim(module: nn.Module, parameter: Tensor) -> int | None:
    """Return the dim of the output channels: 0 but for tables and transposed convolutions."""
    if not parameter.dim():
        return None
    turned = isinstance(module, (_TABLES, _TRANSPOSED))
    return 1 if turned and parameter.dim() > 1 else 0

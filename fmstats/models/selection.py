"""`select` chooses layers by name, pattern, type or function.

- a string without wildcards is the name of one module, leaf or block;
- a glob or a compiled regex (searched) is matched with names, and takes the leaf modules that fit,
  or the blocks if no leaf does;
- a module type takes every instance; a function is asked `f(name, module)` of every module;
- a list takes what any of its members takes.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Union

import torch.nn as nn

from fmstats.errors import FmstatsError, list_closest
from fmstats.models.wrappers import children_of, named_modules

Selector = Union[str, "re.Pattern[str]", type[nn.Module], Callable[[str, nn.Module], bool]]
Selection = Union[Selector, Sequence[Selector], None]  # noqa: UP007  # holds a string

# Rows of operations that are no modules are named "module/operation".
OPERATION_MARK = "/"
ROOT = "(model)"  # the name shown for the model itself


def select(model: nn.Module, include: Selection, exclude: Selection) -> dict[str, nn.Module]:
    """Return the modules to track, by name, in registration order; by default every leaf.

    Raises:
        FmstatsError: a selector that matches nothing or is of no known kind, or nothing left.
    """
    modules = {name or ROOT: module for name, module in named_modules(model).items()}
    if include is None:
        chosen = {name for name, module in modules.items() if is_leaf(module)}
    else:
        chosen = set().union(*(_chosen_by(s, modules, "include") for s in listed(include)))
    for selector in listed(exclude):
        chosen -= _chosen_by(selector, modules, "exclude")
    if not chosen and not any(names_operation(selector) for selector in listed(include)):
        raise FmstatsError(
            f"nothing to track in {type(model).__name__}: include={include!r} and "
            f"exclude={exclude!r} leave none of its {len(modules)} modules"
        )
    return {name: module for name, module in modules.items() if name in chosen}


def names_operation(selector: object) -> bool:
    """Tell whether a selector is of operations, which no module needs to fit."""
    return isinstance(selector, str) and OPERATION_MARK in selector


def is_leaf(module: nn.Module) -> bool:
    """Tell whether a module has no submodules; parametrizations are none."""
    return next(children_of(module), None) is None


def matches(selector: Selector, name: str, module: nn.Module) -> bool:
    """Tell whether one selector fits one module, taken alone.

    Raises:
        FmstatsError: the selector is of no known kind.
    """
    if isinstance(selector, str):
        return has_name(selector, name)
    if isinstance(selector, re.Pattern):
        return selector.search(name) is not None
    if isinstance(selector, type) and issubclass(selector, nn.Module):
        return isinstance(module, selector)
    if callable(selector) and not isinstance(selector, (type, nn.Module)):
        return bool(selector(name, module))
    raise FmstatsError(
        f"cannot select layers by {selector!r}: give a glob, a compiled regex, a module type, "
        "a function of (name, module), or a list of these"
    )


def fitting(selector: Selector, modules: Mapping[str, nn.Module], option: str) -> list[str]:
    """Return the names of the modules that a selector given to `option` fits.

    Raises:
        FmstatsError: there is none, or the selector is of no known kind.
    """
    names = [name for name, module in modules.items() if matches(selector, name, module)]
    return names if names_operation(selector) else _some(names, selector, modules, option)


def fitting_names(pattern: str, names: Collection[str], option: str) -> list[str]:
    """Return the names that are the pattern, or that it fits as a glob."""
    return _some([name for name in names if has_name(pattern, name)], pattern, names, option)


def has_name(pattern: str, name: str) -> bool:
    """Whether a name is the pattern, or fits it as a glob."""
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


def _some(found: list[str], selector: Selector, names: Collection[str], option: str) -> list[str]:
    if not found:
        near = f"; closest: {list_closest(selector, names)}" if isinstance(selector, str) else ""
        raise FmstatsError(f"{option}: {selector!r} matches none of the tracked layers{near}")
    return found


def listed(selection: Selection) -> Sequence[Selector]:
    """Return the selectors of a selection."""
    if selection is None:
        return ()
    if isinstance(selection, (list, tuple, set, frozenset)):
        return list(selection)
    return [selection]  # type: ignore[list-item]  # one selector: a str is a Sequence as well


def _chosen_by(selector: Selector, modules: dict[str, nn.Module], option: str) -> set[str]:
    chosen = {name for name, module in modules.items() if matches(selector, name, module)}
    if isinstance(selector, (str, re.Pattern)) and selector not in chosen:
        chosen = {name for name in chosen if is_leaf(modules[name])} or chosen
    if not chosen and not names_operation(selector):
        raise FmstatsError(f"{option}={_nothing_matches(selector, modules)}")
    return chosen


def _nothing_matches(selector: Selector, modules: dict[str, nn.Module]) -> str:
    if isinstance(selector, type):
        types = ", ".join(sorted({type(module).__name__ for module in modules.values()}))
        return f"{selector.__name__} matches no module; the model is made of {types}"
    if not isinstance(selector, (str, re.Pattern)):
        return f"{selector!r} matches none of the {len(modules)} modules"
    shown = selector if isinstance(selector, str) else selector.pattern
    near = list_closest(shown, modules, count=3)
    return (
        f"{shown!r} matches none of the {len(modules)} modules; closest: {near} (functional "
        "operations are selected by names like 'module/relu')"
    )

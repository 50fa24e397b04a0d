"""`COPIERS` copy the kinds of objects that Python itself brings, by type.

Functions with closures are made anew, with copies of what their variables hold; so are caches of
`functools`, empty. Code of libraries is left as it is.
"""

from __future__ import annotations

import collections
import functools
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

_LIBRARIES = frozenset(
    (
        *(*sys.stdlib_module_names, "torch", "numpy", "fmstats", "triton", "functorch", "sympy"),
        *("pytest", "_pytest", "pluggy"),  # an assertion in a test's model leads to all tests
    )
)
MISSING = object()


class Copying(Protocol):
    """`Copying` copies one object after another."""

    functions: list[types.FunctionType]

    def copy(self, x: Any) -> Any:
        """Return the copy of `x`, made once."""

    def remember(self, x: Any, y: Any) -> Any:
        """Take note, before its parts are copied, that `y` is the copy of `x`; returns it."""

    def find(self, x: Any) -> Any:
        """Return the copy of `x` if there is one already, else `MISSING`."""


def is_library(module: str | None) -> bool:
    """Tell whether code of that module knows nothing of the user's models."""
    return (module or "").partition(".")[0] in _LIBRARIES


def contents_of(cell: types.CellType) -> Any:
    """Return what a variable of a closure holds; `MISSING` if nothing yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


def _fill(copier: Copying, y: Any, x: Any) -> Any:
    copier.remember(x, y)
    if not x:
        return y
    copy = copier.copy
    for key, value in list(x.items()):  # another thread may add to it
        y[key if type(key) is str else copy(key)] = copy(value)
    return y


def _dict(copier: Copying, x: Any) -> Any:
    return _fill(copier, type(x)(), x)


def _default_dict(copier: Copying, x: collections.defaultdict[Any, Any]) -> Any:
    return _fill(copier, collections.defaultdict(copier.copy(x.default_factory)), x)


def _list(copier: Copying, x: list[Any]) -> Any:
    y = copier.remember(x, [])
    y.extend(copier.copy(each) for each in list(x))
    return y


def _deque(copier: Copying, x: collections.deque[Any]) -> Any:
    y = copier.remember(x, collections.deque(maxlen=x.maxlen))
    y.extend(copier.copy(each) for each in list(x))
    return y


def _tuple(copier: Copying, x: tuple[Any, ...]) -> Any:
    y = tuple(copier.copy(each) for each in x)
    return x if all(a is b for a, b in zip(x, y, strict=True)) else y


def _set(copier: Copying, x: Any) -> Any:
    return type(x)(copier.copy(each) for each in list(x))


def _cell(copier: Copying, x: types.CellType) -> types.CellType:
    y: types.CellType = copier.remember(x, types.CellType())
    contents = contents_of(x)
    if contents is not MISSING:
        y.cell_contents = copier.copy(contents)
    return y


def _function(copier: Copying, x: types.FunctionType) -> Any:
    copier.functions.append(x)
    uncompiled = vars(x).get("_torchdynamo_orig_callable")
    if uncompiled is not None:
        return copier.copy(uncompiled)
    if is_library(x.__module__) or not (x.__closure__ or x.__defaults__ or x.__kwdefaults__):
        return x
    cells = x.__closure__ or ()
    first = [cell for cell in cells if copier.find(cell) is MISSING]
    for cell in first:
        copier.remember(cell, types.CellType())
    places = tuple(copier.find(cell) for cell in cells) or None
    y = types.FunctionType(x.__code__, x.__globals__, x.__name__, None, places)
    copier.remember(x, y)  # before what its variables hold, among which a recursive function is
    for name in functools.WRAPPER_ASSIGNMENTS:
        setattr(y, name, getattr(x, name))
    for cell in first:
        contents = contents_of(cell)
        if contents is not MISSING:
            copier.find(cell).cell_contents = copier.copy(contents)
    y.__defaults__, y.__kwdefaults__ = copier.copy(x.__defaults__), copier.copy(x.__kwdefaults__)
    vars(y).update({name: copier.copy(value) for name, value in vars(x).items()})
    return y


def _method(copier: Copying, x: types.MethodType) -> Any:
    function, owner = copier.copy(x.__func__), copier.copy(x.__self__)
    unchanged = function is x.__func__ and owner is x.__self__
    return x if unchanged else types.MethodType(function, owner)


def _builtin(copier: Copying, x: types.BuiltinFunctionType) -> Any:
    owner = x.__self__
    if owner is None or isinstance(owner, types.ModuleType | type):
        return x
    copied = copier.copy(owner)
    return x if copied is owner else getattr(copied, x.__name__)


def _partial(copier: Copying, x: functools.partial[Any]) -> Any:
    y = functools.partial(copier.copy(x.func), *copier.copy(x.args), **copier.copy(x.keywords))
    vars(y).update(copier.copy(vars(x)))
    return y


def _cache(copier: Copying, x: Any) -> Any:
    if is_library(x.__module__):
        return x
    return functools.lru_cache(**x.cache_parameters())(copier.copy(x.__wrapped__))


def _referred(copier: Copying, x: Any) -> Any:
    """Return what a weak reference leads to: a copy of modules, tensors and what has one."""
    known = copier.find(x)
    if known is not MISSING:
        return known
    return copier.copy(x) if isinstance(x, Tensor | nn.Module) else x


def _reference(copier: Copying, x: weakref.ref[Any]) -> Any:
    target = x()
    twin = _referred(copier, target)
    return x if target is twin else weakref.ref(twin)


def _weak_keys(copier: Copying, x: weakref.WeakKeyDictionary[Any, Any]) -> Any:
    y = copier.remember(x, weakref.WeakKeyDictionary())
    for key, value in list(x.items()):
        y[_referred(copier, key)] = copier.copy(value)
    return y


def _weak_values(copier: Copying, x: weakref.WeakValueDictionary[Any, Any]) -> Any:
    y = copier.remember(x, weakref.WeakValueDictionary())
    for key, value in list(x.items()):
        y[copier.copy(key)] = _referred(copier, value)
    return y


def _weak_set(copier: Copying, x: weakref.WeakSet[Any]) -> Any:
    return weakref.WeakSet(_referred(copier, each) for each in list(x))


COPIERS: dict[type, Callable[[Any, Any], Any]] = {
    dict: _dict,
    collections.OrderedDict: _dict,
    collections.Counter: _dict,
    collections.defaultdict: _default_dict,
    list: _list,
    collections.deque: _deque,
    tuple: _tuple,
    set: _set,
    frozenset: _set,
    types.CellType: _cell,
    types.FunctionType: _function,
    types.MethodType: _method,
    types.BuiltinFunctionType: _builtin,
    functools.partial: _partial,
    functools._lru_cache_wrapper: _cache,
    weakref.ref: _reference,
    weakref.WeakKeyDictionary: _weak_keys,
    weakref.WeakValueDictionary: _weak_values,
    weakref.WeakSet: _weak_set,
}

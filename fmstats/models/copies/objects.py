"""`Copier` copies everything that can be reached from a model, and has twins for tensors.

As `copy.deepcopy`, apart from this: tensors are those of a `Tensors`; functions with closures and
caches of `functools` are copied too; what cannot be copied (a lock, a file, a running generator) is
shared, and listed. Classes, modules of Python, and what belongs to libraries are shared as well.
"""

from __future__ import annotations

import copyreg
import enum
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from fmstats.models.copies.kinds import COPIERS, MISSING, is_library
from fmstats.models.copies.tensors import Tensors

# Parts of torch whose objects describe or hold what a forward pass works on. All others are
# operators, compilers, streams and process groups, of which there is one for all.
_COPIED = ("torch.nn", "torch.utils.hooks", "torch.distributions", "torch.optim", "torch.ao.nn")
_ATOMIC = frozenset(
    (
        *(type(None), bool, int, float, complex, str, bytes, range, slice, type(...), type),
        *(types.ModuleType, types.CodeType, torch.dtype, torch.device, torch.layout, torch.Size),
        *(type(NotImplemented), types.MappingProxyType, types.GetSetDescriptorType, property),
    )
)


class Copier:
    """A copier copies object by object, each once.

    Attributes:
        classes, functions: the code that what was copied can run.
        shared: what could not be copied, and is the user's own.
    """

    def __init__(self, tensors: Tensors) -> None:
        self.classes: dict[type, None] = {}
        self.functions: list[types.FunctionType] = []
        self.shared: list[object] = []
        self._tensors = tensors
        self._memo: dict[int, Any] = {}
        self._kept: list[object] = []  # so that ids stay theirs
        self._made: list[nn.Module] = []

    def copy(self, x: Any) -> Any:
        """Return the copy of `x`; `x` itself if it cannot change or cannot be copied."""
        kind = type(x)
        if kind in _ATOMIC:
            return x
        known = self._memo.get(id(x), MISSING)
        if known is not MISSING:
            return known
        return self.remember(x, self._way_of(x, kind)(self, x))

    def remember(self, x: Any, y: Any) -> Any:
        """Take note that `y` is the copy of `x`; returns it."""
        if y is not x and id(x) not in self._memo:
            self._memo[id(x)] = y
            self._kept.append(x)
        return y

    def find(self, x: Any) -> Any:
        """Return the copy of `x` if there is one already, else `MISSING`."""
        return self._memo.get(id(x), MISSING)

    def forget(self) -> None:
        """Empty the copied modules, so that they go without the garbage collector."""
        for module in self._made:
            vars(module).clear()
        self._made.clear()
        self._memo.clear()
        self._kept.clear()

    def _way_of(self, x: Any, kind: type) -> Callable[[Copier, Any], Any]:
        known = COPIERS.get(kind)
        if known is not None:
            return known
        if isinstance(x, Tensor):
            return Copier._tensor
        if isinstance(x, type | types.ModuleType | enum.Enum):
            return Copier._itself
        if isinstance(x, torch.Generator):
            return Copier._generator
        if isinstance(x, nn.Module) and (_is_plain(kind) or is_parametrized(x)):
            return Copier._module
        return Copier._object

    def _itself(self, x: Any) -> Any:
        return x

    def _tensor(self, x: Tensor) -> Tensor:
        twin: Tensor = self.remember(x, self._tensors.twin(x))
        for name, value in vars(x).items():
            if name not in vars(twin) and not name.startswith("_"):
                vars(twin)[name] = self.copy(value)
        return twin

    def _generator(self, x: torch.Generator) -> torch.Generator:
        return torch.Generator(device=x.device).set_state(x.get_state())

    def _module(self, x: nn.Module) -> nn.Module:
        # Not by __getstate__, which on recurrent layers writes to the module itself.
        kind = type(x)
        y: nn.Module = self.remember(x, kind.__new__(kind))
        self._made.append(y)
        self.classes[kind] = None
        copy, attributes = self.copy, vars(y)
        for name, value in list(vars(x).items()):
            if name != "_compiled_call_impl":  # It runs the user's module.
                attributes[name] = value if type(value) in _ATOMIC else copy(value)
        for name in _slots_of(x):
            object.__setattr__(y, name, copy(getattr(x, name)))
        return y

    def _object(self, x: Any) -> Any:
        kind = type(x)
        home = kind.__module__ or ""
        is_module = isinstance(x, nn.Module)
        if home.startswith("torch") and not home.startswith(_COPIED) and not is_module:
            return x
        if not is_library(home):
            self.classes[kind] = None
        try:
            if hasattr(kind, "__del__") and not is_module:
                raise TypeError("what a copy lets go of may be the user's")
            y = self._by_protocol(x, kind)
        except Exception:
            # Its class forbids copies, or they need what is not there.
            self.shared.append(x)
            self._memo[id(x)] = x
            return x
        if is_module and not isinstance(x, torch.jit.ScriptModule):
            self._made.append(y)
        return y

    def _by_protocol(self, x: Any, kind: type) -> Any:
        own = getattr(kind, "__deepcopy__", None)
        if own is not None:
            for tensor in _tensors_in(x):
                self.copy(tensor)
            return own(x, self._memo)
        reducer = copyreg.dispatch_table.get(kind)
        reduced = x.__reduce_ex__(4) if reducer is None else reducer(x)
        if isinstance(reduced, str):
            return x
        make, args, state, items, pairs = (*reduced, None, None, None)[:5]
        y = make(*(self.copy(each) for each in args))
        self.remember(x, y)
        if state is not None:
            _set_state(y, self.copy(state))
        for each in items or ():
            y.append(self.copy(each))
        for key, value in pairs or ():
            y[self.copy(key)] = self.copy(value)
        return y


def attributes_of(x: object) -> dict[str, Any]:
    """Return what an object holds under names, in its dict or in slots."""
    slots = {name: getattr(x, name) for name in _slots_of(x)}
    return {**slots, **getattr(x, "__dict__", {})}


def _tensors_in(x: object) -> Iterator[Tensor]:
    """Return the tensors that a copy by `__deepcopy__` would copy for itself."""
    left, seen = [x], {id(x): x}
    while left:
        each = left.pop()
        if isinstance(each, Tensor):
            yield each
            continue
        parts: list[Any] = list(getattr(each, "__dict__", {}).values())
        if isinstance(each, dict):
            parts += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple | set):
            parts += list(each)
        for part in parts:
            code = isinstance(part, types.FunctionType | types.ModuleType | type)
            if type(part) not in _ATOMIC and not code and id(part) not in seen:
                seen[id(part)] = part
                left.append(part)


def _slots_of(x: object) -> Iterator[str]:
    for kind in type(x).__mro__:
        names = kind.__dict__.get("__slots__")
        if not names:
            continue
        for name in (names,) if isinstance(names, str) else names:
            if name not in ("__dict__", "__weakref__"):
                mangled = name.startswith("__") and not name.endswith("__")
                name = f"_{kind.__name__.lstrip('_')}{name}" if mangled else name
                if hasattr(x, name):
                    yield name


def _set_state(y: Any, state: Any) -> None:
    if hasattr(y, "__setstate__"):
        y.__setstate__(state)
        return
    pair = isinstance(state, tuple) and len(state) == 2
    attributes, slots = state if pair else (state, None)
    if attributes:
        y.__dict__.update(attributes)
    for name, value in (slots or {}).items():
        setattr(y, name, value)


def _is_plain(kind: type[nn.Module]) -> bool:
    """Tell whether a module is its attributes: its class has no copy method of its own."""
    own = [c for c in kind.__mro__ if not (c.__module__ or "").startswith("torch.nn.modules")]
    names = ("__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
    return not any(name in vars(c) for c in own if c is not object for name in names)

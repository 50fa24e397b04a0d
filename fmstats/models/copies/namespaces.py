"""A space is where names hold objects that no copy of a model can have for itself."""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fmstats.models.copies.kinds import is_library
from fmstats.models.copies.objects import attributes_of

_CONTAINERS = (dict, list, set)
# Modules whose objects hold what is put into them; a WeakSet says that it is of the third.
_DATA_OF = ("collections", "weakref", "_weakrefset", "functools")
# What Python calls when objects are made, printed or stored, which a forward pass seldom does.
_MAKING = frozenset(("__init__", "__new__", "__post_init__"))
_ASIDE = frozenset(
    (
        *("__init_subclass__", "__class_getitem__", "__del__", "__repr__", "__str__", "__copy__"),
        *("__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__"),
    )
)


class Space(Protocol):
    """A space has names and what they hold."""

    def read(self) -> Mapping[Any, Any]:
        """Return all names with what they hold."""

    def write(self, name: Any, value: object) -> None:
        """Have a name hold something else."""

    def erase(self, name: Any) -> None:
        """Take a name away."""

    def has(self, name: object) -> bool:
        """Tell whether code reaches what the name holds."""

    def takes(self, name: object, value: object) -> bool:
        """Tell whether a look works on a copy of what a name holds."""


class Globals:
    """This space has the names of a module of Python that code mentions."""

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names
        self.mentioned: set[str] = set()

    def read(self) -> Mapping[Any, Any]:
        """Return all names with what they hold."""
        return self._names

    def write(self, name: Any, value: object) -> None:
        """Have a name hold something else."""
        self._names[name] = value

    def erase(self, name: Any) -> None:
        """Take a name away."""
        del self._names[name]

    def has(self, name: object) -> bool:
        """Tell whether code mentions it."""
        return name in self.mentioned

    def takes(self, name: object, value: object) -> bool:
        """Tell whether a look works on a copy of what a name holds."""
        return self.has(name) and not is_special(name) and is_data(value)


class Attributes:
    """This space has the attributes of a class of which any code mentions the name.

    Attributes:
        made: whether code makes objects of the class.
    """

    def __init__(self, kind: type, mentioned: set[str]) -> None:
        self._kind, self._mentioned = kind, mentioned
        self.made = False

    def read(self) -> Mapping[Any, Any]:
        """Return all names with what they hold."""
        return vars(self._kind)

    def write(self, name: Any, value: object) -> None:
        """Have a name hold something else, without what a metaclass does when it is set."""
        type.__setattr__(self._kind, name, value)

    def erase(self, name: Any) -> None:
        """Take a name away."""
        type.__delattr__(self._kind, name)

    def has(self, name: object) -> bool:
        """Tell whether code mentions it, or Python calls it by itself."""
        if name in _MAKING:
            return self.made
        return name in self._mentioned or (is_special(name) and name not in _ASIDE)

    def takes(self, name: object, value: object) -> bool:
        """Tell whether a look works on a copy of what a name holds."""
        return self.has(name) and not is_special(name) and is_data(value)


class Shared:
    """This space has the attributes of an object that cannot be copied."""

    def __init__(self, owner: object) -> None:
        self._owner = owner
        self._names: dict[str, Any] = getattr(owner, "__dict__", {})

    def read(self) -> Mapping[Any, Any]:
        """Return all names with what they hold."""
        return attributes_of(self._owner)

    def write(self, name: Any, value: object) -> None:
        """Have a name hold something else, without what the class does when it is set."""
        if name in self._names:
            self._names[name] = value
        else:
            object.__setattr__(self._owner, name, value)

    def erase(self, name: Any) -> None:
        """Take a name away."""
        if name in self._names:
            del self._names[name]
        else:
            object.__delattr__(self._owner, name)

    def has(self, name: object) -> bool:
        """Return True: all of them count."""
        return True

    def takes(self, name: object, value: object) -> bool:
        """Tell whether a look works on a copy of what a name holds."""
        return not isinstance(value, type | types.ModuleType)


class Hooks(Globals):
    """This space has hooks for all modules, which torch keeps by number."""

    def has(self, name: object) -> bool:
        """Return True: all of them count."""
        return True

    def takes(self, name: object, value: object) -> bool:
        """Return True: a look runs copies of them, which hold copies of what they fill."""
        return True


def is_special(name: object) -> bool:
    """Tell whether it is a name like `__init__`."""
    return isinstance(name, str) and name.startswith("__") and name.endswith("__")


def is_code(value: object) -> bool:
    """Tell whether it is a function, a class or a module."""
    return isinstance(value, types.FunctionType | type | types.ModuleType)


def is_data(value: object) -> bool:
    """Tell whether a look may fill it, and it can be copied safely."""
    kind = type(value)
    if kind in (*_CONTAINERS, tuple, frozenset) or isinstance(
        value, Tensor | nn.Module | torch.Generator
    ):
        return True
    if kind is functools._lru_cache_wrapper:
        return not is_library(getattr(value, "__module__", None))
    if kind.__module__ in _DATA_OF or kind is types.MethodType:
        return True
    if is_code(value) or isinstance(value, _CONTAINERS):
        return False  # A mapping of its own kind may load what it holds when it is read.
    return not is_library(kind.__module__) and kind.__module__ != "builtins"

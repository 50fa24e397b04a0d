"""`Reach` finds what code reaches beside its arguments: globals, class attributes, closures.

Code is followed by name: a function reaches the globals that it names, what it names of modules
among these, and the attributes of that name of every class that was met.
"""

from __future__ import annotations

import functools
import types
from typing import Any

from torch import nn

from fmstats.models.copies.kinds import contents_of, is_library
from fmstats.models.copies.namespaces import Attributes, Globals, Hooks, Shared, Space, is_data
from fmstats.models.copies.objects import Copier

_CALLED = ("forward", "train", "eval")  # by torch and by fmstats


class Reach:
    """`Reach` follows the code of what was copied, and has data that it meets copied too.

    Attributes:
        spaces, cells, functions: where that code may find or leave something, by id.
    """

    def __init__(self, copier: Copier) -> None:
        self.spaces: dict[int, Space] = {}
        self.cells: dict[int, types.CellType] = {}
        self.functions: dict[int, types.FunctionType] = {}
        self.copier = copier
        self._mentioned: set[str] = set(_CALLED)
        self._seen: set[tuple[int, Any]] = set()
        for kind in ("forward", "forward_pre", "backward", "backward_pre"):
            hooks = getattr(nn.modules.module, f"_global_{kind}_hooks")
            self.spaces[id(hooks)] = Hooks(hooks)

    def follow(self) -> None:
        """Go on until nothing new is met."""
        before = -1
        while (met := self._count()) != before:
            before = met
            for function in list(self.copier.functions):
                self._function(function)
            for kind in list(self.copier.classes):
                self._class(kind)
            for shared in self.copier.shared:
                self.spaces.setdefault(id(shared), Shared(shared))
            for key, space in list(self.spaces.items()):
                for name, value in list(space.read().items()):
                    if (key, name) not in self._seen and space.has(name):
                        self._seen.add((key, name))
                        self._value(space, name, value)

    def _count(self) -> int:
        copier = self.copier
        met = len(self._seen) + len(self._mentioned) + len(self.spaces) + len(self.functions)
        return met + len(copier.classes) + len(copier.functions) + len(copier.shared)

    def _value(self, space: Space, name: object, value: Any) -> None:
        if space.takes(name, value):
            self.copier.copy(value)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, type):
            self._class(value, made=not issubclass(value, nn.Module))
        elif isinstance(value, staticmethod | classmethod | property | functools.cached_property):
            parts = ("__func__", "fget", "fset", "func")
            for part in (getattr(value, part, None) for part in parts):
                if isinstance(part, types.FunctionType):
                    self._function(part)

    def _class(self, kind: type, *, made: bool = False) -> None:
        for base in kind.__mro__:
            if not is_library(base.__module__):
                space = self.spaces.setdefault(id(base), Attributes(base, self._mentioned))
                assert isinstance(space, Attributes)
                space.made |= made

    def _function(self, function: types.FunctionType) -> None:
        if id(function) in self.functions:
            return
        self.functions[id(function)] = function
        wrapped = getattr(function, "__wrapped__", None)
        if isinstance(wrapped, types.FunctionType):
            self._function(wrapped)
        is_own = not is_library(function.__globals__.get("__name__"))
        for cell in function.__closure__ or ():
            contents = contents_of(cell)
            if isinstance(contents, types.FunctionType):
                self._function(contents)
            elif isinstance(contents, type):
                self._class(contents)
            if is_own:
                self.cells[id(cell)] = cell
                if is_data(contents):
                    self.copier.copy(contents)
        if is_own:
            self.copier.copy(function.__defaults__)
            self.copier.copy(function.__kwdefaults__)
            self._mention(_names_in(function.__code__), function.__globals__)

    def _mention(self, names: set[str], within: dict[str, Any]) -> None:
        self._mentioned |= names
        self._globals_of(within).mentioned |= names
        for name in names:
            value = within.get(name)
            if isinstance(value, types.ModuleType) and not is_library(value.__name__):
                self._globals_of(vars(value)).mentioned |= names

    def _globals_of(self, names: dict[str, Any]) -> Globals:
        space = self.spaces.setdefault(id(names), Globals(names))
        assert isinstance(space, Globals)
        return space


def _names_in(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names_in(constant)
    return names

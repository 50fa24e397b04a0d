"""Fingerprint Python code by what it runs, not by its location or documentation.

A function has its bytecode, constants, defaults and closure, and what it names: functions, classes
and values among the globals of its module, and the methods of its class. Of an installed package,
it has these but for the globals: the package's version stands for them. The standard library,
PyTorch, NumPy and fmstats itself are identified by their versions alone.
"""

from __future__ import annotations

import dis
import functools
import importlib.metadata
import itertools
import platform
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fmstats._version import __version__
from fmstats.runs.fingerprints import Fingerprints, join

_INSTALLED = ("site-packages", "dist-packages")  # folders
_BY_VERSION = sys.stdlib_module_names | {"torch", "numpy", "fmstats", "builtins"}
# Namespaces of operations from packages that are identified by version or code anyway.
_KNOWN_OPERATIONS = {"aten", "prim", "prims", "quantized", "inductor", "higher_order", "fmstats"}
_GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR")
_ABSENT = object()
_KNOWN_OPERATIONS |= {"torchvision", "image", "rngprims", "debugprims", "c10d", "_c10d_functional"}


def list_versions() -> dict[str, str]:
    """Return the versions of the packages that are identified by version, not by code."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {
        **{"fmstats": __version__, "torch": torch.__version__},
        **{"numpy": np.__version__, "python": python},
    }


def fingerprint_code(value: Any, prints: Fingerprints) -> bytes:
    """Fingerprint a function, or a class by what its instances may run."""
    if isinstance(value, types.FunctionType):
        return _of_function(value, None, prints)
    members: list[bytes] = []
    if _is_installed(value.__module__, prints):
        return join("class", f"{value.__module__}.{value.__qualname__}")
    for kind in own_classes(value):
        for name, member in vars(kind).items():
            if isinstance(member, types.FunctionType | staticmethod | classmethod | property):
                members.append(join(name, prints.of(member, f"{kind.__qualname__}.{name}")))
    return join("class", value.__qualname__, *members)


def fingerprint_forward(kind: type[nn.Module], prints: Fingerprints) -> bytes:
    """Fingerprint what a call of a module of this class runs."""
    parts: list[bytes] = []
    for name in ("__call__", "__getattr__", "forward"):
        parts += _of_members(kind, (name,), prints)
    return join("forward", kind.__qualname__, *parts)


def own_classes(kind: type) -> list[type]:
    """Return the class and its parents, except those that are identified by version."""
    return [parent for parent in kind.__mro__ if not _is_by_version(parent.__module__)]


def _is_by_version(module: object) -> bool:
    return isinstance(module, str) and module.partition(".")[0] in _BY_VERSION


def _is_installed(module: object, prints: Fingerprints) -> bool:
    """Return whether a module is of an installed package, and note the version of that."""
    root = module.partition(".")[0] if isinstance(module, str) else ""
    package = sys.modules.get(root)
    file = getattr(package, "__file__", None) or ""
    if not any(folder in Path(file).parts for folder in _INSTALLED):
        return False
    prints.packages[root] = _version_of(root)
    return True


@functools.lru_cache(maxsize=256)
def _version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # It may go by another name there.
        return str(getattr(sys.modules[package], "__version__", "unknown"))


def _of_function(function: types.FunctionType, owner: type | None, prints: Fingerprints) -> bytes:
    if _is_by_version(function.__module__):
        return join("function", f"{function.__module__}.{function.__qualname__}")
    code = function.__code__
    place = f"{function.__qualname__}()"
    parts = [_of_code(code, function.__doc__, prints)]
    parts.append(prints.of(function.__defaults__, place))
    parts.append(prints.of(function.__kwdefaults__, place))
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            content = cell.cell_contents
        except ValueError:  # nothing was put there yet
            continue
        if name != "__class__":  # of super(): its methods count as far as they are named
            parts.append(join(name, prints.of(content, f"{name} in {place}")))
    names: tuple[str, ...] = ()
    if not _is_installed(function.__module__, prints):
        names = tuple(dict.fromkeys(_names(code, _GLOBALS)))
    attributes = tuple(dict.fromkeys(_names(code, _ATTRIBUTES)))
    if "ops" in attributes:
        parts += _of_operations(attributes, place, prints)
    for name in names:
        value = function.__globals__.get(name, _ABSENT)
        if isinstance(value, types.ModuleType):
            parts += _of_namespace(value, attributes, prints, {name})
        elif value is not _ABSENT:
            parts.append(join(name, prints.of(value, name)))
    if owner is not None:
        parts += _of_members(owner, attributes, prints)
    return join("function", function.__qualname__, *parts)


def _of_operations(names: Iterable[str], place: str, prints: Fingerprints) -> Iterator[bytes]:
    """Note the custom operations that a function names, whose code is not available."""
    namespaces = vars(torch.ops)
    for name in names:
        custom = type(namespaces.get(name)).__name__ == "_OpNamespace"
        if custom and name not in _KNOWN_OPERATIONS:
            yield prints.miss(f"operations torch.ops.{name}", f"called in {place}")


def _of_namespace(
    module: types.ModuleType, names: Iterable[str], prints: Fingerprints, seen: set[str]
) -> Iterator[bytes]:
    """Fingerprint what a function takes out of a module, or out of a module inside it."""
    if _is_by_version(module.__name__) or _is_installed(module.__name__, prints):
        return
    for name in names:
        value = vars(module).get(name, _ABSENT)
        if isinstance(value, types.ModuleType) and name not in seen:
            yield from _of_namespace(value, names, prints, seen | {name})
        elif value is not _ABSENT and not isinstance(value, types.ModuleType):
            yield join(name, prints.of(value, f"{module.__name__}.{name}"))


def _of_members(kind: type, names: Iterable[str], prints: Fingerprints) -> Iterator[bytes]:
    """Fingerprint the members of a class, parents included, that have some of these names."""
    for parent, name in itertools.product(own_classes(kind), names):
        member = vars(parent).get(name, _ABSENT)
        function = _unwrap(member)
        if isinstance(function, types.FunctionType):
            yield join(name, prints.once((kind, function), _of_method))
        elif member is not _ABSENT:
            yield join(name, prints.of(member, f"{parent.__qualname__}.{name}"))


def _of_method(method: tuple[Any, ...], prints: Fingerprints) -> bytes:
    kind, function = method
    return _of_function(function, kind, prints)


def _unwrap(member: Any) -> Any:
    if isinstance(member, staticmethod | classmethod):
        return member.__func__
    if isinstance(member, property):
        return member.fget
    return member.func if isinstance(member, functools.cached_property) else member


def _of_code(code: types.CodeType, doc: str | None, prints: Fingerprints) -> bytes:
    constants = [
        _of_code(constant, None, prints)
        if isinstance(constant, types.CodeType)
        else prints.of(constant, code.co_name)
        for constant in code.co_consts
        if doc is None or constant is not doc
    ]
    names = (*code.co_names, "", *code.co_varnames, "", *code.co_freevars, "", *code.co_cellvars)
    arguments = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return join("code", code.co_code, repr(arguments), *names, *constants)


def _names(code: types.CodeType, of: tuple[str, ...]) -> Iterator[str]:
    """Return the names that some instructions use, in a function and in those inside it."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in of:
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant, of)

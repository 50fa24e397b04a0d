"""Fingerprint values by content, whatever objects hold it.

Numbers, texts, containers, tensors, arrays, functions (by their code), and objects (by their class
and attributes) have one. What has no content that can be read is noted as unknown. Some objects
are not looked at, since they hold the state of a process and no results: locks, loggers, weak
references, thread-local and context variables.
"""

from __future__ import annotations

import contextvars
import enum
import functools
import hashlib
import logging
import random
import re
import threading
import types
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fmstats.runs.tensor_digests import NoValuesError, digest_tensor

_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, range, slice)
_WRITTEN = (
    *(re.Pattern, PurePath, enum.Enum, type(...), type(NotImplemented)),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format, np.dtype),
    *(torch.fx.Graph, torch.fx.Node),
)
_OF_THE_PROCESS = (
    *(type(threading.Lock()), type(threading.RLock()), threading.local, threading.Thread),
    *(logging.Logger, logging.Handler, weakref.ReferenceType, RemovableHandle),
    *(contextvars.ContextVar, weakref.WeakKeyDictionary, weakref.WeakValueDictionary),
    *(weakref.WeakSet, types.ModuleType),
)
_LANGUAGE = ("builtins", "types", "typing")
_MOST = 200_000  # values in one fingerprint
_NAMED = 100  # of what is unknown


class Fingerprints:
    """Makes fingerprints, 16 bytes each, and remembers those of the same objects.

    Args:
        of_function: the fingerprint of a Python function or a class: `of_function(value, self)`.

    Attributes:
        unknown: what has no fingerprint, each as a place and a type.
        packages: the versions of the installed packages that were met.
    """

    def __init__(self, of_function: Callable[[Any, Fingerprints], bytes]) -> None:
        self._of_function = of_function
        self._known: dict[int, bytes] = {}
        self._made: dict[tuple[int, ...], bytes] = {}
        self._kept: list[object] = []  # a number stands for an object as long as that lives
        self.unknown: list[str] = []
        self.packages: dict[str, str] = {}

    def of(self, value: object, place: str) -> bytes:
        """Fingerprint a value; `place` says where it was found."""
        if isinstance(value, _PLAIN):
            return join(type(value).__name__, value if isinstance(value, bytes) else repr(value))
        if id(value) in self._known:
            return self._known[id(value)]
        if len(self._kept) >= _MOST:
            return self.miss(place, f"more than {_MOST:,} values")
        # A value within itself is identified by when it was met first.
        self._known[id(value)] = join("again", str(len(self._kept)))
        self._kept.append(value)
        found = self._known[id(value)] = self._look(value, place)
        return found

    def once(self, key: tuple[Any, ...], make: Callable[..., bytes]) -> bytes:
        """Return `make(key, self)`, called only once for the same objects."""
        ids = tuple(map(id, key))
        if ids not in self._made:
            self._made[ids] = join("again", str(len(self._made)))
            self._kept.append(key)
            self._made[ids] = make(key, self)
        return self._made[ids]

    def miss(self, place: str, kind: str) -> bytes:
        """Note something that cannot be distinguished from other values."""
        entry = f"{place} ({kind})"
        if entry not in self.unknown and len(self.unknown) < _NAMED:
            self.unknown.append(entry)
        return join("unknown", kind)

    def _look(self, value: Any, place: str) -> bytes:
        kind = type(value).__qualname__
        if isinstance(value, Tensor):
            try:
                return join("tensor", digest_tensor(value))
            except NoValuesError as error:
                return self.miss(place, str(error))
        if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
            content = np.ascontiguousarray(value)
            return join(f"{value.dtype} {value.shape}", content.tobytes())
        if isinstance(value, _WRITTEN):
            return join(kind, str(value))
        if isinstance(value, _OF_THE_PROCESS):
            return join(kind)
        if isinstance(value, Mapping):
            items = [
                part
                for key, item in value.items()
                for part in (self.of(key, place), self.of(item, f"{place}[{key!r}]"))
            ]
            return join(kind, *items, *self._own(value, place))
        if isinstance(value, set | frozenset):
            return join(kind, *sorted(self.of(item, place) for item in value))
        if isinstance(value, list | tuple | deque | np.ndarray):
            items = [self.of(item, f"{place}[{i}]") for i, item in enumerate(value)]
            return join(kind, *items, *self._own(value, place))
        if isinstance(value, nn.Module):
            return self.of_module(value, place)
        return self._look_further(value, kind, place)

    def _look_further(self, value: Any, kind: str, place: str) -> bytes:
        if isinstance(value, functools.partial):
            parts = (value.func, value.args, value.keywords)
            return join(kind, *(self.of(part, place) for part in parts))
        if isinstance(value, types.MethodType):
            return join(kind, self.of(value.__func__, place), self.of(value.__self__, place))
        if isinstance(value, staticmethod | classmethod | functools._lru_cache_wrapper):
            return join(kind, self.of(value.__wrapped__, place))
        if isinstance(value, property):
            return join(kind, *(self.of(f, place) for f in (value.fget, value.fset)))
        if isinstance(value, functools.cached_property):
            return join(kind, self.of(value.func, place))
        if isinstance(value, types.FunctionType | type):
            return self._of_function(value, self)
        if type(value).__module__ == "torch._ops":
            return join(kind, str(value))
        if isinstance(value, torch.Generator):
            return join(kind, digest_tensor(value.get_state()))
        if isinstance(value, random.Random):
            return join(kind, self.of(value.getstate(), place))
        if isinstance(value, torch.ScriptObject):
            return self._by_state(value, place)
        if hasattr(value, "__dict__") or getattr(type(value), "__slots__", None):
            return join(kind, self.of(type(value), place), *self._own(value, place))
        return self._by_pickle(value, place)

    def _own(self, value: Any, place: str) -> list[bytes]:
        """Fingerprint an object by its attributes."""
        own = dict(getattr(value, "__dict__", {}))
        for parent in type(value).__mro__:
            slots = parent.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if hasattr(value, name):
                    own[name] = getattr(value, name)
        return [
            part
            for name, item in own.items()
            if name not in ("__dict__", "__weakref__")
            for part in (name.encode(), self.of(item, f"{place}.{name}"))
        ]

    def _by_state(self, value: Any, place: str) -> bytes:
        try:
            return join("script", self.of(value.__getstate__(), place))
        except RuntimeError:
            return self.miss(place, type(value).__name__)

    def _by_pickle(self, value: Any, place: str) -> bytes:
        """Fingerprint an object of a compiled type by what `pickle` would store."""
        if isinstance(value, types.BuiltinFunctionType):
            return join("builtin", f"{value.__module__}.{value.__qualname__}")
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:
            text = repr(value)
            if type(value).__module__ in _LANGUAGE and " at 0x" not in text:
                return join("written", text)
            return self.miss(place, f"{type(value).__module__}.{type(value).__qualname__}")
        if isinstance(reduced, str):
            return join("named", reduced)
        parts = [
            list(part) if i in (3, 4) and part is not None else part
            for i, part in enumerate(reduced)
        ]
        return join("pickled", self.of(parts, place))

    def of_module(self, module: nn.Module, place: str) -> bytes:
        """Fingerprint a module that the model holds without having it as a layer."""
        parts = [self.of(type(module), place), *self.of_tensors(module, place)]
        parts.append(self.of(settings_of(module), place))
        for name, child in module.named_children():
            parts.append(join(name, self.of(child, f"{place}.{name}")))
        return join("module", *parts)

    def of_tensors(self, module: nn.Module, place: str) -> list[bytes]:
        """Fingerprint a module's own parameters and buffers, unsaved ones included."""
        named = tensors_of(module).items()
        return [join(name, self.of(value, f"{place}.{name}")) for name, value in named]


def join(*parts: str | bytes) -> bytes:
    """Make one fingerprint of several parts."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.digest()[:16]


# What every module has: of PyTorch's own, and of no influence on what it computes in evaluation.
_USUAL = frozenset(nn.Module().__dict__) | {
    *("_compiled_call_impl", "_is_torch_compile", "_flat_weight_refs"),
    "_compile_kwargs",  # of Lightning, which notes how `torch.compile` was called
}
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks", "_backward_pre_hooks")


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's own parameters and buffers, unsaved ones included."""
    parameters = module.named_parameters(recurse=False, remove_duplicate=False)
    return {**dict(parameters), **dict(module.named_buffers("", False, False))}


def settings_of(module: nn.Module) -> dict[str, object]:
    """Return what a module holds beside tensors and layers: attributes, hooks, extra state."""
    settings: dict[str, object] = {k: v for k, v in vars(module).items() if k not in _USUAL}
    hooks = [hook for kind in _HOOKS for hook in getattr(module, kind).values()]
    own = [hook for hook in hooks if not type(hook).__module__.startswith("fmstats.")]
    if own:
        settings["hooks"] = own
    if type(module).get_extra_state is not nn.Module.get_extra_state:
        settings["extra state"] = module.get_extra_state()
    return settings

"""Record everything reachable from a model and its arguments, and report what changed.

It walks attributes, slots, containers, closures, defaults, global variables that functions name,
class attributes, and caches of functools. Of tensors it notes type, values, version, gradient and
flags; of the process its settings and random numbers.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import sys
import types
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch._dynamo  # so that no look is what brings it
from torch import Tensor, nn

_VALUES = (type(None), bool, int, float, complex, str, bytes, range, slice)
_LIBRARIES = {*sys.stdlib_module_names, "torch", "numpy", "fmstats", "triton", "pytest"}
_LIBRARIES |= {"_pytest", "hypothesis", "pluggy"}


def _is_library(name: str | None) -> bool:
    return (name or "").partition(".")[0] in _LIBRARIES


def _key(x: object) -> object:
    return (type(x), repr(x)) if type(x) in _VALUES else id(x)


class Snapshot:
    """What can be reached from `roots` now."""

    def __init__(self, *roots: object) -> None:
        self._objects: dict[int, tuple[str, Any]] = {}
        left = [(f"[{place}]", root) for place, root in enumerate(roots)]
        while left:
            path, x = left.pop()
            if id(x) not in self._objects and type(x) not in _VALUES:
                self._objects[id(x)] = path, x
                left += [(path + step, part) for step, part in _parts(x)]
        self._notes = {key: _note(x) for key, (_, x) in self._objects.items()}
        self._settings = _settings()

    def changes(self) -> list[str]:
        """What differs now, by path."""
        found = []
        for key, (path, x) in self._objects.items():
            now = _note(x)
            if now != self._notes[key]:
                before = self._notes[key]
                keys = [k for k in {**before, **now} if before.get(k) != now.get(k)]
                found.append(f"{path} ({type(x).__name__}): {', '.join(map(str, keys))}")
        now = _settings()
        return found + [f"setting {k}" for k in now if now[k] != self._settings.get(k)]

    def check(self) -> None:
        """All is as it was."""
        assert self.changes() == []

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All that were reached, with their paths."""
        for path, x in self._objects.values():
            if isinstance(x, Tensor):
                yield path, x


def _parts(x: Any) -> Iterator[tuple[str, Any]]:
    """The objects that `x` holds, each with its step from there."""
    if isinstance(x, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        return
    if isinstance(x, dict):
        for key, value in list(x.items()):
            yield f"[{key!r:.20}]", value
            yield ".key", key
    elif isinstance(x, (list, tuple, set, frozenset)) or type(x).__name__ == "deque":
        yield from ((f"[{place}]", part) for place, part in enumerate(list(x)))
    elif isinstance(x, types.FunctionType):
        yield from _parts_of_function(x)
        return
    elif isinstance(x, types.MethodType):
        yield from ((".__self__", x.__self__), (".__func__", x.__func__))
        return
    elif isinstance(x, functools.partial):
        yield from ((".func", x.func), (".args", x.args), (".keywords", x.keywords))
    elif isinstance(x, weakref.ref):
        target = x()
        if isinstance(target, Tensor | nn.Module):
            yield "()", target
        return
    elif isinstance(x, types.ModuleType):
        return
    elif isinstance(x, type):
        if not _is_library(x.__module__):
            yield from ((f".{k}", v) for k, v in vars(x).items() if not k.startswith("__"))
            yield from (
                (f".{n}", b) for n, b in enumerate(x.__mro__) if not _is_library(b.__module__)
            )
            if "forward" in vars(x):
                yield ".forward", vars(x)["forward"]
        return
    if isinstance(x, Tensor):
        yield ".grad", x.grad if x.is_leaf else None
    if _is_library(type(x).__module__) and not isinstance(x, nn.Module | Tensor):
        return
    yield ".__class__", type(x)
    yield from ((f".{name}", value) for name, value in _attributes(x).items())


def _parts_of_function(x: types.FunctionType) -> Iterator[tuple[str, Any]]:
    if _is_library(x.__module__):
        return
    for name, cell in zip(x.__code__.co_freevars, x.__closure__ or (), strict=True):
        yield f".<{name}>", cell
        with contextlib.suppress(ValueError):
            yield f".{name}", cell.cell_contents
    yield ".__defaults__", x.__defaults__
    yield ".__kwdefaults__", x.__kwdefaults__
    yield ".__dict__", vars(x)
    if _is_test(x.__globals__):
        for name in x.__code__.co_names:
            if name in x.__globals__:
                yield f".{name}", x.__globals__[name]


def _is_test(names: dict[str, Any]) -> bool:
    return str(names.get("__name__")).startswith(("test_", "keeping"))


def _attributes(x: object) -> dict[str, Any]:
    slots = [n for kind in type(x).__mro__ for n in vars(kind).get("__slots__", ())]
    named = {n: getattr(x, n) for n in slots if not n.startswith("__") and hasattr(x, n)}
    return {**named, **getattr(x, "__dict__", {})}


def _note(x: Any) -> dict[object, object]:
    """What must not change of one object, what it holds by identity."""
    note: dict[object, object] = {"type": type(x)}
    if isinstance(x, torch.jit.ScriptModule):
        return note | {k: (v.data_ptr(), _bytes(v)) for k, v in x.state_dict().items()}
    if isinstance(x, dict):
        note |= {("key", _key(k)): _key(v) for k, v in x.items()}
        note["order"] = [_key(k) for k in x]
    elif isinstance(x, (list, tuple, set, frozenset)) or type(x).__name__ == "deque":
        note["items"] = [_key(part) for part in x]
    elif isinstance(x, types.CellType):
        try:
            note["contents"] = _key(x.cell_contents)
        except ValueError:
            note["contents"] = "empty"
    elif isinstance(x, types.FunctionType):
        held = (x.__defaults__, x.__kwdefaults__, x.__closure__, x.__code__)
        note |= {"held": [id(part) for part in held]}
        if _is_test(x.__globals__):
            names = x.__code__.co_names
            note |= {n: _key(x.__globals__[n]) for n in names if n in x.__globals__}
    elif isinstance(x, functools._lru_cache_wrapper):
        note["cache"] = x.cache_info()
    elif isinstance(x, np.ndarray):
        note["values"] = x.tobytes()
    elif isinstance(x, torch.Generator):
        note["state"] = x.get_state().numpy().tobytes()
    elif isinstance(x, type) and not _is_library(x.__module__):
        note |= {n: id(v) for n, v in vars(x).items() if not n.startswith("__")}
    if isinstance(x, Tensor):
        note |= _note_of_tensor(x)
    if not isinstance(x, type | types.FunctionType | types.ModuleType):
        note |= {("attribute", n): _key(v) for n, v in _attributes(x).items()}
    return note


def _note_of_tensor(x: Tensor) -> dict[object, object]:
    flags = ("requires_grad", "is_leaf", "dtype", "device", "layout", "shape")
    note: dict[object, object] = {name: getattr(x, name) for name in flags}
    if nn.parameter.is_lazy(x):
        return note
    note["version"] = None if x.is_inference() else x._version
    note["grad"], note["grad_fn"] = id(x.grad) if x.is_leaf else None, id(x.grad_fn)
    note["hooks"] = len(x._backward_hooks or ())
    if x.layout == torch.strided:
        note["strides"], note["memory"] = x.stride(), x.untyped_storage()._cdata
        if x.device.type == "cpu" and type(x) is not torch._subclasses.FakeTensor:
            note["address"], note["values"] = x.untyped_storage().data_ptr(), _bytes(x)
    return note


def _bytes(x: Tensor) -> bytes:
    x = x.detach().cpu()
    x = x.int_repr() if x.is_quantized else x
    return x.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if x.numel() else b""


def _settings() -> dict[str, object]:
    dynamo = sys.modules.get("torch._dynamo")
    loggers = ("", "torch", "torch._subclasses.fake_tensor", "torch._dynamo")
    hooks = ("forward", "forward_pre", "backward", "backward_pre")
    read: dict[str, Callable[[], object]] = {
        "default dtype": torch.get_default_dtype,
        "default device": torch.get_default_device,
        "random numbers": lambda: torch.get_rng_state().numpy().tobytes(),
        "random": random.getstate,
        "numpy.random": lambda: str(np.random.get_state()),
        "gradients": torch.is_grad_enabled,
        "inference mode": torch.is_inference_mode_enabled,
        "autocast": lambda: torch.is_autocast_enabled("cpu"),
        "fast path": torch.backends.mha.get_fastpath_enabled,
        "deterministic": torch.are_deterministic_algorithms_enabled,
        "threads": torch.get_num_threads,
        "matmul": torch.get_float32_matmul_precision,
        "warnings": lambda: list(warnings.filters),
        "modes": lambda: torch._C._len_torch_dispatch_stack(),
        "function modes": lambda: torch._C._len_torch_function_stack(),
        "logging": lambda: [(log.level, log.disabled) for log in map(logging.getLogger, loggers)],
        "hooks of all modules": lambda: [
            [*getattr(nn.modules.module, f"_global_{kind}_hooks").items()] for kind in hooks
        ],
        "dynamo": lambda: None if dynamo is None else dynamo.config.save_config(),
        "stance": lambda: None if dynamo is None else str(dynamo.eval_frame._stance),
    }  # fmt: skip
    return {name: value() for name, value in read.items()}

"""Watch one forward pass, operation by operation: FLOPs, traffic, memory and receptive fields.

A dispatch mode sees what modules and functional calls do alike; the module that is innermost at the
moment is charged. Memory is followed by storage, from the operation that makes it until the last
reference dies: views and in-place results cost nothing, and a buffer counts for as long as Python
holds it, as at inference.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

from fmstats.analysis.fields import EVERYTHING, Field, of_input, of_output
from fmstats.analysis.formulas import count_flops, has_formula
from fmstats.analysis.kinds import kind_of
from fmstats.analysis.names import label_of, name_of
from fmstats.analysis.records import MOVES, UNKNOWN, Work
from fmstats.analysis.storages import list_dense
from fmstats.analysis.subgraphs import run_inside, takes_functions


@dataclass
class _Buffer:
    size: int
    alive: object  # the weak reference whose death frees the buffer
    field: Field | None


_PICKING = frozenset(("embedding", "index_select", "gather", "index"))


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Watches one forward pass as its dispatch mode.

    Attributes:
        stack: names of the modules that run at the moment, innermost last.
        work: what each module's own operations cost.
        flops: of all operations so far.
        peak: the most bytes alive at once that the pass itself made.
    """

    # The modes of torch's own counters say so too: else flex attention and `cond` are refused.
    supports_higher_order_operators = True

    def __init__(self, root: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stack = [root]
        self.work: dict[str, Work] = {root: Work()}
        self.flops = 0
        self.peak = 0
        self._live = 0
        self._buffers: dict[int, _Buffer] = {}

    def own(self, tensors: Iterable[Tensor]) -> None:
        """Register parameters and buffers, which are no activations."""
        for tensor in _tensors(tensors):
            self._add(tensor, counted=False)

    def feed(self, inputs: Iterable[Tensor]) -> None:
        """Register the model's inputs, which the caller holds."""
        for tensor in _tensors(inputs):
            self._add(tensor, counted=False).field = of_input(tensor)

    def field_of(self, tensor: Tensor) -> Field | None:
        """Return the receptive field of a live tensor; None if it is everything, or unknown."""
        seen = self._seen_by(tensor)
        return None if seen is EVERYTHING else seen

    def _seen_by(self, tensor: Tensor) -> Field | None:
        known = (self._buffers.get(_key(dense)) for dense in list_dense(tensor))
        return next((buffer.field for buffer in known if buffer is not None), None)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and charge it to the module that called it."""
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:
            return func(*args, **kwargs)
        if not has_formula(func):
            if takes_functions(func, args):
                return run_inside(func, args, kwargs, self, self._cost)
            if self._takes_apart(func, types):
                with self:
                    parts = func.decompose(*args, **kwargs)
                if parts is not NotImplemented:
                    return parts
        out = func(*args, **kwargs)
        work = self.work[self.stack[-1]]
        flops = count_flops(func, args, kwargs, out)
        if flops is not None:
            work.flops += flops
            self.flops += flops
        elif (kind := kind_of(func)) != MOVES:
            work.uncounted[label_of(func), kind] += 1
        if not getattr(func, "is_view", False):
            self._follow(func, args, kwargs, out, work)
        return out

    @staticmethod
    def _takes_apart(func: Any, types: Any) -> bool:
        """Return whether to ask for the parts of an operation, which may be composite.

        Under inference mode, and in functions, these arrive whole. Tensor subclasses take them
        apart in their own way.
        """
        if not isinstance(func, OpOverload) or any(kind is not FakeTensor for kind in types):
            return False
        return torch.is_inference_mode_enabled() or kind_of(func) == UNKNOWN

    def _cost(self, run: Callable[[], object]) -> int:
        apart = Recorder(self.stack[-1])
        with apart:
            run()
        return apart.flops

    def _follow(self, func: Any, args: Any, kwargs: Any, out: Any, work: Work) -> None:
        results = list(_tensors((out,)))
        name = name_of(func)
        operands = list(_tensors((*args, *kwargs.values())))
        if name in _PICKING:  # Of the table it reads no more than it writes.
            table = operands.pop(0)
            work.traffic += min(_bytes(table), sum(map(_bytes, results)))
        work.traffic += sum(map(_bytes, operands)) + sum(map(_bytes, results))
        seen = of_output(name, args, out, self._seen_by)
        for result in results:
            key = _key(result)
            if key not in self._buffers:
                self._add(result, counted=True)
                if result.is_floating_point() or result.is_complex():
                    work.made += result.numel()
                    work.made_bytes += _bytes(result)
            self._buffers[key].field = seen

    def _add(self, tensor: Tensor, *, counted: bool) -> _Buffer:
        storage, key = tensor.untyped_storage(), _key(tensor)
        if key in self._buffers:
            return self._buffers[key]
        size = storage.nbytes() if counted else 0
        self._live += size
        self.peak = max(self.peak, self._live)

        def free(_: object) -> None:
            self._live -= self._buffers.pop(key).size

        buffer = self._buffers[key] = _Buffer(size, weakref.ref(storage, free), None)
        return buffer


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield from list_dense(value)
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _bytes(tensor: Tensor) -> int:
    # An expanded tensor has fewer bytes than elements.
    return min(tensor.numel() * tensor.itemsize, tensor.untyped_storage().nbytes())

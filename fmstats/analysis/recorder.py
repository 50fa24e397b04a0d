"""Watch one forward pass, operation by operation: FLOPs, traffic, memory and receptive fields.

A dispatch mode sees what modules and functional calls do alike; the module that is innermost at the
moment is charged. Memory is followed by storage, from the operation that makes it until the last
reference dies: views and in-place results cost nothing, and a buffer counts for as long as Python
holds it, as at inference.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fmstats.analysis.fields import EVERYTHING, Field, of_input, of_output
from fmstats.analysis.formulas import formula_of, kind_of
from fmstats.analysis.records import MOVES, Work


@dataclass
class _Buffer:
    size: int
    alive: object  # the weak reference whose death frees the buffer
    field: Field | None


_PICKING = frozenset(("embedding", "index_select", "gather", "index"))


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """The dispatch mode of one forward pass.

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
        """Take note of parameters and buffers: they are no activations."""
        for tensor in tensors:
            self._add(tensor, counted=False)

    def feed(self, inputs: Iterable[Tensor]) -> None:
        """Take note of the model's inputs, which the caller holds."""
        for tensor in inputs:
            self._add(tensor, counted=False).field = of_input(tensor)

    def field_of(self, tensor: Tensor) -> Field | None:
        """The receptive field of a tensor that is alive; None if all of the input, or unknown."""
        seen = self._seen_by(tensor)
        return None if seen is EVERYTHING else seen

    def _seen_by(self, tensor: Tensor) -> Field | None:
        if tensor.layout != torch.strided:
            return None
        buffer = self._buffers.get(_key(tensor))
        return None if buffer is None else buffer.field

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and charge it to the module that called it."""
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:
            return func(*args, **kwargs)
        packet = getattr(func, "overloadpacket", func)
        formula = formula_of(packet)
        if formula is None and torch.is_inference_mode_enabled() and hasattr(func, "decompose"):
            with self:  # Under inference mode composite operations arrive whole.
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        work = self.work[self.stack[-1]]
        if formula is not None:
            flops = int(formula(*args, **kwargs, out_val=out))
            work.flops += flops
            self.flops += flops
        elif (kind := kind_of(func)) != MOVES:
            work.uncounted[str(packet).removeprefix("aten."), kind] += 1
        if not getattr(func, "is_view", False):
            self._follow(func, args, kwargs, out, work)
        return out

    def _follow(self, func: Any, args: Any, kwargs: Any, out: Any, work: Work) -> None:
        results = list(_tensors((out,)))
        name = getattr(getattr(func, "overloadpacket", func), "__name__", "")
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
            if value.layout == torch.strided:  # sparse tensors have no storage to follow
                yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _bytes(tensor: Tensor) -> int:
    # An expanded tensor has fewer bytes than elements.
    return min(tensor.numel() * tensor.itemsize, tensor.untyped_storage().nbytes())

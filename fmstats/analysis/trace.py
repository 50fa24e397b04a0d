"""Run copies of a model once or twice under watch, on fake tensors or real ones.

The first pass, without gradients and in the model's own mode, gives what each module does. The
second, with gradients and in training mode, shows what autograd keeps. Each has a copy of its own,
of the model and of its arguments, so that neither sees what the other left behind.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._pytree import tree_leaves

from fmstats.analysis.fakes import are_faked, faking
from fmstats.analysis.guards import without_fast_paths, without_logs
from fmstats.analysis.inputs import Dtypes, Sizes, read_inputs
from fmstats.analysis.recorder import Recorder
from fmstats.analysis.records import Call, Trace, Work
from fmstats.analysis.storages import list_dense, shape_of
from fmstats.errors import FmstatsError
from fmstats.models.copies import look
from fmstats.models.copies.fakes import FakeTensors
from fmstats.models.copies.leftovers import check_leftovers
from fmstats.models.copies.settings import random_state_kept
from fmstats.models.copies.tensors import RealTensors, Tensors
from fmstats.models.modes import in_mode, uncompiled
from fmstats.models.selection import ROOT, is_leaf
from fmstats.models.wrappers import named_modules
from fmstats.runs.counting import Counting
from fmstats.sources.batches import ModelInput
from fmstats.sources.entrypoints import describe_error


def trace(
    model: nn.Module,
    inputs: tuple[object, ...],
    input_size: Sizes | None,
    dtype: Dtypes | None,
    device: torch.device,
    batch_dim: int | None = None,
) -> Trace:
    """Run `model` and say what each of its modules did.

    Raises:
        FmstatsError: the inputs do not fit, the model raises, or its shapes depend on values and
            the device is "meta".
    """
    named = itertools.chain(model.named_parameters(), model.named_buffers())
    lazy = {name.rpartition(".")[0] or ROOT: None for name, t in named if nn.parameter.is_lazy(t)}
    if lazy:
        raise FmstatsError(
            f"{type(model).__name__} has lazy modules, whose sizes are not known yet "
            f"({', '.join(map(repr, lazy))}): run it on one batch first"
        )
    meta = (t for t in itertools.chain(model.parameters(), model.buffers()) if t.is_meta)
    if device.type != "meta" and next(meta, None) is not None:
        raise FmstatsError(
            f"{type(model).__name__} is on the meta device, where weights have no values: move it "
            f"with to_empty(device={str(device)!r}) first, or leave device= out"
        )
    mode = FakeTensorMode(allow_non_fake_inputs=True) if device.type == "meta" else None
    found = _trace(_Subject(model, device, mode, batch_dim), inputs, input_size, dtype)
    if mode is not None:
        check_leftovers(mode)
    return found


@dataclass(frozen=True)
class _Subject:
    """Holds the model to watch, and the fake mode or device of its tensors."""

    model: nn.Module
    device: torch.device
    mode: FakeTensorMode | None
    batch_dim: int | None

    @property
    def home(self) -> torch.device:
        """Return the device of the inputs; with fake tensors, that of the model."""
        if self.mode is None:
            return self.device
        tensors = itertools.chain(self.model.parameters(), self.model.buffers())
        first = next((t.device for t in tensors), torch.device("cpu"))
        return torch.device("cpu") if first.type == "meta" else first

    def make(self, size: tuple[int, ...], dtype: torch.dtype, source: Tensor | None = None) -> Any:
        """Make an input of the model."""
        if self.mode is None and source is not None:
            return source.detach().to(device=self.home, dtype=dtype)
        if self.mode is not None or not dtype.is_floating_point:
            return torch.zeros(size, dtype=dtype, device=self.home)
        return torch.randn(size, dtype=dtype, device=self.home)

    @contextlib.contextmanager
    def look(self, called: ModelInput) -> Iterator[tuple[nn.Module, ModelInput]]:
        """Copy the model and its arguments for one pass."""
        tensors: Tensors = RealTensors(self.device)
        if self.mode is not None:
            tensors = FakeTensors(self.mode, self.home)
        # Before the mode is entered: made under it, tensors would take as long as a forward pass.
        given = (called.args, called.kwargs)
        with look(self.model, tensors, given) as copies, copies.running(), self.entered():
            args, kwargs = copies.beside
            yield copies.model, replace(called, args=args, kwargs=kwargs)

    def entered(self) -> contextlib.AbstractContextManager[object]:
        """Enter the fake mode, where there is one."""
        return contextlib.nullcontext() if self.mode is None else faking(self.mode)


def _trace(
    subject: _Subject,
    inputs: tuple[object, ...],
    input_size: Sizes | None,
    dtype: Dtypes | None,
) -> Trace:
    found = Trace()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))  # Under it autograd keeps nothing.
        stack.enter_context(without_logs())
        stack.enter_context(without_fast_paths())
        stack.enter_context(uncompiled())
        stack.enter_context(random_state_kept())
        with subject.entered():
            called = read_inputs(subject.model, inputs, input_size, dtype, subject.make)
        called = replace(called, batch_dim=subject.batch_dim)
        with subject.look(called) as (model, given), torch.no_grad():
            _watch(model, given, found)
        found.saved = _measure_saved(subject, called, found)
    return found


def _watch(model: nn.Module, called: ModelInput, found: Trace) -> None:
    tensors = [t for t in tree_leaves((called.args, called.kwargs)) if isinstance(t, Tensor)]
    found.input_bytes = sum(t.numel() * t.itemsize for t in tensors)
    recorder = Recorder(ROOT)
    recorder.own(_state_of(model))
    recorder.feed(tensors)
    counting = Counting(model, limit=None)
    with counting.ask_layers(called), _hooks(model, recorder, found.calls), recorder:
        _call(model, called, recorder)
    found.batch = counting.count(called)
    found.work, found.peak = recorder.work, recorder.peak


def _state_of(model: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(model.parameters(), model.buffers())


def _call(model: nn.Module, called: ModelInput, recorder: Recorder | None) -> None:
    try:
        model(*called.args, **called.kwargs)
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise FmstatsError(
            f"{_where(recorder)}: {error.func} depends on values, and fake tensors have none: "
            "analyze(..., device='cpu') runs the model on numbers"
        ) from error
    except Exception as error:
        # .numpy(), kernels without a rule for shapes: what a fake tensor cannot do, a real one may.
        way_out = "; if fake tensors are why: analyze(..., device='cpu') runs the model on numbers"
        hint = way_out if are_faked() else ""
        raise FmstatsError(
            f"{_where(recorder)} raised {describe_error(error)}; the model was called with "
            f"{called.describe()}{hint}"
        ) from error


def _where(recorder: Recorder | None) -> str:
    inside = recorder.stack[-1] if recorder is not None else ROOT
    return "the model" if inside == ROOT else f"layer {inside!r}"


@contextlib.contextmanager
def _hooks(model: nn.Module, recorder: Recorder, calls: list[Call]) -> Iterator[None]:
    """Tell the recorder which module runs, and take note of what each returns."""
    handles = []

    def watch(name: str, module: nn.Module) -> None:
        starts: list[int] = []
        recorder.work.setdefault(name, Work())

        def enter(module: nn.Module, args: Any) -> None:
            recorder.stack.append(name)
            starts.append(recorder.flops)

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            # A module that raised, and whose error was caught, did not leave.
            while recorder.stack.pop() != name:
                pass
            flops = recorder.flops - starts.pop()
            calls.append(_read_call(name, is_leaf(module), output, recorder, flops))

        # First: what hooks of the model do, as those of weight_norm, is the layer's work.
        handles.append(module.register_forward_pre_hook(enter, prepend=True))
        handles.append(module.register_forward_hook(leave))

    try:
        for name, module in named_modules(model).items():
            watch(name or ROOT, module)
        yield
    finally:
        for handle in handles:
            handle.remove()


def _read_call(name: str, leaf: bool, output: Any, recorder: Recorder, flops: int) -> Call:
    tensors = list({id(t): t for t in _tensors_in(output)}.values())
    floating = [t for t in tensors if t.is_floating_point() or t.is_complex()]
    first = next(iter(floating or tensors), None)
    return Call(
        name,
        leaf,
        None if first is None else shape_of(first),
        sum(t.numel() for t in floating),
        sum(t.numel() * t.itemsize for t in floating),
        flops,
        None if first is None else recorder.field_of(first),
    )


def _tensors_in(output: object) -> Iterator[Tensor]:
    """Yield the tensors in nested collections and dataclasses."""
    for leaf in tree_leaves(output):
        if isinstance(leaf, Tensor):
            yield leaf
        elif is_dataclass(leaf) and not isinstance(leaf, type):
            yield from _tensors_in(list(vars(leaf).values()))


def _measure_saved(subject: _Subject, called: ModelInput, found: Trace) -> int | None:
    """Measure the bytes that autograd keeps, without parameters and buffers; each storage once."""
    model = subject.model
    for mode, note in (
        (True, None),
        (model.training, "does not run in training mode: memory for backward is of eval mode"),
    ):
        try:
            with subject.look(called) as (copied, given):
                saved = _count_saved(copied, mode, given)
        except FmstatsError:
            continue
        if note is not None:
            found.notes.append(f"{type(model).__name__} {note}")
        fake = subject.mode is not None
        if fake and any(isinstance(module, nn.LSTM) for module in model.modules()):
            found.notes.append(
                "memory for backward lacks the workspace of the fused LSTM, which fake tensors do "
                "not have: analyze(..., device='cpu') counts it"
            )
        return saved
    found.notes.append(
        f"{type(model).__name__} does not run with gradients: memory for backward is not known"
    )
    return None


def _count_saved(model: nn.Module, training: bool, called: ModelInput) -> int:
    state = {d.untyped_storage()._cdata: d for t in _state_of(model) for d in list_dense(t)}
    kept: dict[int, Tensor] = {}  # held, so that no freed storage's place is taken by another

    def pack(tensor: Tensor) -> Tensor | None:
        for dense in list_dense(tensor):
            storage = dense.untyped_storage()
            if storage._cdata not in state and not isinstance(tensor, nn.Parameter):
                kept[storage._cdata] = dense.detach()
        return None

    def unpack(_: object) -> Tensor:
        raise FmstatsError("the model runs a backward pass within its forward pass")

    saving = torch.autograd.graph.saved_tensors_hooks(pack, unpack)
    with in_mode(model, training=training), torch.enable_grad(), saving:
        _call(model, called, None)
    return sum(t.untyped_storage().nbytes() for t in kept.values())

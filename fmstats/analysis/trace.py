"""Run a model once or twice under watch, on fake tensors or real ones.

The first pass, without gradients and in the model's own mode, gives what each module does. The
second, with gradients and in training mode, tells what autograd keeps. The model comes back as it
was: its parameters and buffers are replaced for the time of a call, and no hook stays.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.utils._pytree import tree_leaves

from fmstats.analysis.guards import attributes_kept, without_fast_paths, without_logs
from fmstats.analysis.inputs import Dtypes, Sizes, read_inputs
from fmstats.analysis.recorder import Recorder
from fmstats.analysis.records import Call, Trace, Work
from fmstats.errors import FmstatsError
from fmstats.modes import in_mode, uncompiled
from fmstats.selection import ROOT, is_leaf
from fmstats.sources.batches import ModelInput
from fmstats.sources.entrypoints import describe_error
from fmstats.wrappers import named_modules


def trace(
    model: nn.Module,
    inputs: tuple[object, ...],
    input_size: Sizes | None,
    dtype: Dtypes | None,
    device: torch.device,
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
    fake = device.type == "meta"
    found = Trace()
    mode = FakeTensorMode(allow_non_fake_inputs=True) if fake else None
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))  # Under it autograd keeps nothing.
        # Before the mode is entered: made under it, they would take as long as a forward pass.
        state = _stand_ins(model, device, mode)
        if mode is not None:
            stack.enter_context(mode)
        stack.enter_context(without_logs())
        stack.enter_context(without_fast_paths())
        stack.enter_context(uncompiled())
        stack.enter_context(attributes_kept(model))
        cards = [device] if device.type == "cuda" else []
        stack.enter_context(torch.random.fork_rng(devices=cards, enabled=not fake))
        home = _home_of(model) if fake else device

        def make(size: tuple[int, ...], dtype: torch.dtype, source: Tensor | None = None) -> Tensor:
            if source is not None and not fake:
                # A copy: the model may write into its input.
                return source.detach().to(device=home, dtype=dtype, copy=True)
            if fake or not dtype.is_floating_point:
                return torch.zeros(size, dtype=dtype, device=home)
            return torch.randn(size, dtype=dtype, device=home)

        called = read_inputs(model, inputs, input_size, dtype, make)
        tensors = [t for t in tree_leaves((called.args, called.kwargs)) if isinstance(t, Tensor)]
        found.batch = next((t.shape[0] for t in tensors if t.dim()), None)
        found.input_bytes = sum(t.numel() * t.itemsize for t in tensors)
        with torch.no_grad():
            _watch(model, state, called, tensors, found)
        found.saved = _measure_saved(model, state, called, found, fake)
    return found


def _watch(
    model: nn.Module,
    state: dict[str, Tensor],
    called: ModelInput,
    tensors: list[Tensor],
    found: Trace,
) -> None:
    recorder = Recorder(ROOT)
    recorder.own(state.values())
    recorder.feed(tensors)
    with _hooks(model, recorder, found.calls), recorder:
        _call(model, state, called, recorder)
    found.work, found.peak = recorder.work, recorder.peak


def _call(
    model: nn.Module, state: dict[str, Tensor], called: ModelInput, recorder: Recorder | None
) -> None:
    try:
        torch.func.functional_call(model, state, called.args, called.kwargs)
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise FmstatsError(
            f"{_where(recorder)}: {error.func} depends on values, and fake tensors have none: "
            "analyze(..., device='cpu') runs the model on numbers"
        ) from error
    except Exception as error:
        # .numpy() and foreign libraries: what a fake tensor cannot do, a real one may.
        words = ("subclass", "fake", "meta tensor", "meta function")
        fake = any(word in str(error).lower() for word in words)
        hint = "; analyze(..., device='cpu') runs the model on numbers" if fake else ""
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
        None if first is None else tuple(first.shape),
        sum(t.numel() for t in floating),
        sum(t.numel() * t.itemsize for t in floating),
        flops,
        None if first is None else recorder.field_of(first),
    )


def _tensors_in(output: object) -> Iterator[Tensor]:
    """Tensors in nested collections and dataclasses."""
    for leaf in tree_leaves(output):
        if isinstance(leaf, Tensor):
            yield leaf
        elif is_dataclass(leaf) and not isinstance(leaf, type):
            yield from _tensors_in(list(vars(leaf).values()))


def _measure_saved(
    model: nn.Module, state: dict[str, Tensor], called: ModelInput, found: Trace, fake: bool
) -> int | None:
    """Bytes that autograd keeps, parameters and buffers left out and each storage counted once."""
    for mode, note in (
        (True, None),
        (model.training, "does not run in training mode: memory for backward is of eval mode"),
    ):
        try:
            saved = _count_saved(model, mode, state, called)
        except FmstatsError:
            continue
        if note is not None:
            found.notes.append(f"{type(model).__name__} {note}")
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


class _InMode(nn.Module):
    """A model that is in a mode while it runs.

    It changes mode on stand-ins, as `train` may do more to weights than set flags.
    """

    def __init__(self, model: nn.Module, training: bool) -> None:
        super().__init__()
        self.model, self._wanted = model, training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with in_mode(self.model, training=self._wanted):
            return self.model(*args, **kwargs)


def _count_saved(
    model: nn.Module, training: bool, state: dict[str, Tensor], called: ModelInput
) -> int:
    known = {t.untyped_storage()._cdata for t in state.values()}
    kept: dict[int, Tensor] = {}  # held, so that no freed storage's place is taken by another

    def pack(tensor: Tensor) -> None:
        if tensor.layout == torch.strided and not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            if storage._cdata not in known:
                kept[storage._cdata] = tensor.detach()

    def unpack(_: object) -> Tensor:
        raise FmstatsError("the model runs a backward pass within its forward pass")

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        stand_ins = {f"model.{name}": tensor for name, tensor in state.items()}
        _call(_InMode(model, training), stand_ins, called, None)
    return sum(t.untyped_storage().nbytes() for t in kept.values())


def _stand_ins(
    model: nn.Module, device: torch.device, mode: FakeTensorMode | None
) -> dict[str, Tensor]:
    """Parameters and buffers by name: fake ones, or real ones with buffers that may change."""
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    if mode is None:
        copies = {name: buffer.to(device, copy=True) for name, buffer in buffers.items()}
        return {name: p.to(device) for name, p in parameters.items()} | copies
    home = _home_of(model)
    state: dict[str, Tensor] = {}
    for name, tensor in (parameters | buffers).items():
        state[name] = FakeTensor(mode, torch.empty_like(tensor, device="meta"), home)
        state[name].requires_grad_(tensor.requires_grad)
    return state


def _home_of(model: nn.Module) -> torch.device:
    """Where fake tensors pretend to lie: where the model is, else on the CPU."""
    first = next((t.device for t in _tensors_of(model)), torch.device("cpu"))
    return torch.device("cpu") if first.type == "meta" else first


def _tensors_of(model: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(model.parameters(), model.buffers())

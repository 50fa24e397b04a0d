"""`track`: statistics of every layer's feature maps, by forward hooks, while a model runs."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from types import TracebackType

import torch
import torch.nn as nn
from torch.utils.hooks import RemovableHandle

from fmstats import graph
from fmstats._version import __version__
from fmstats.backends import DTYPES, choose_backend
from fmstats.channels import ChannelRule, channel_rules
from fmstats.coverage import Coverage, CoverageRow
from fmstats.errors import FmstatsError
from fmstats.gates import WHEN, Budget, Every, Folding, Gate, Sampling, Timed
from fmstats.hooks import EndHook, GradientHook, InputHook, OutputHook, PassHook
from fmstats.layers import Layer, LayerSpec, PerCall
from fmstats.profiles import Profile
from fmstats.ranks import merge_ranks
from fmstats.saturation import Bounds, chosen_bounds
from fmstats.selection import ROOT, Selection, Selector, fitting, select
from fmstats.statistic import Thresholds
from fmstats.wrappers import unwrap_compiled


def track(
    model: nn.Module,
    include: Selection = None,
    exclude: Selection = None,
    *,
    of: str = "output",
    when: str = "always",
    every: int = 1,
    budget: float | None = None,
    channel_dim: str | int | Mapping[Selector, int] = "auto",
    zero_tol: float = 0.0,
    backend: str = "auto",
    per_call: bool = False,
    on_error: str = "raise",
    saturation: Mapping[Selector, Bounds] | None = None,
    warmup: bool = False,
) -> Tracker:
    """Measure a model's feature maps from now on.

    Use it as a context manager, or keep the tracker and `close()` it. A tracker that nothing refers
    to any more removes its hooks by itself.

    Args:
        model: any module. It is not changed apart from its hooks.
        include: a name, a glob, a compiled regex, a module type, a function of (name, module), or a
            list of these (see `fmstats.selection`). Default: every leaf module.
        exclude: what to leave out of these, in the same words.
        of: "output" of each layer, its "input", or "grad_output": the gradient that flows back into
            its output.
        when: measure the forward passes of `model` in "train" or "eval" mode, or "always".
        every: measure the first of every `every` of these passes.
        budget: measure as many of them as cost at most this share of their time, instead of
            `every`: 0.01 for a hundredth. By the host's clock.
        channel_dim: "auto" (see `fmstats.channels`), a dim for all layers, or dims by selector.
        zero_tol: |x| <= zero_tol counts as zero.
        backend: one of `fmstats backends`, or "auto": the best for each tensor's device.
        per_call: keep a row `name#i` for the i-th call of a layer in a forward pass.
        on_error: "raise", or "warn" once and stop measuring that layer.
        saturation: bounds (low, high) by selector, instead of those of `fmstats.saturation`.
        warmup: compile kernels now, for tensors of the dtype of the model's parameters, instead of
            in the first forward pass.

    Raises:
        FmstatsError: nothing to track, a selector that matches nothing, an unknown option.
    """
    if not isinstance(model, nn.Module):
        hint = ": torch.export.unflatten(program) is one"
        raise FmstatsError(
            f"track() takes a torch.nn.Module, got {type(model).__name__}"
            + (hint if type(model).__name__ == "ExportedProgram" else "")
        )
    for option, value, choices in (
        ("of", of, ("output", "input", "grad_output")),
        ("when", when, WHEN),
        ("on_error", on_error, ("raise", "warn")),
    ):
        if value not in choices:
            raise FmstatsError(f"{option}={value!r}: choose {' or '.join(map(repr, choices))}")
    sampling = _choose_sampling(every, budget)
    if backend != "auto":
        choose_backend(backend, _device_of(model))
    model = unwrap_compiled(model)
    modules = select(model, include, exclude)
    _refuse_scripts({ROOT: model, **modules})
    dims = _channel_dims(model, modules, of, channel_dim)
    bounds = chosen_bounds(modules, of, saturation)
    specs = {
        name: LayerSpec(
            name=name,
            type=type(module).__name__,
            channels=dims[name],
            thresholds=Thresholds(zero_tol, *bounds[name]),
            of=of,
            backend=backend,
            on_error=on_error,
        )
        for name, module in modules.items()
    }
    if warmup:
        _warm_up(model, backend, {spec.thresholds for spec in specs.values()})
    graph.forget_graphs()
    return Tracker(model, modules, specs, of=of, when=when, sampling=sampling, per_call=per_call)


def _choose_sampling(every: int, budget: float | None) -> Sampling:
    if not isinstance(every, int) or every < 1:
        raise FmstatsError(f"every={every!r}: give a whole number of forward passes, 1 or more")
    if budget is None:
        return Every(every)
    if not isinstance(budget, (int, float)) or not 0 < budget < 1:
        raise FmstatsError(f"budget={budget!r}: give a share of the forward time, as 0.01")
    if every != 1:
        raise FmstatsError(f"every={every} and budget={budget}: give one of them")
    return Budget(budget)


def _refuse_scripts(modules: Mapping[str, nn.Module]) -> None:
    scripts = [n for n, module in modules.items() if isinstance(module, torch.jit.ScriptModule)]
    if scripts:
        raise FmstatsError(
            f"{scripts[0]!r} is TorchScript, which calls no Python hooks: track the module that it "
            "was made from, or leave it out with exclude="
        )


def _warm_up(model: nn.Module, backend: str, thresholds: set[Thresholds]) -> None:
    used = {(p.device, p.dtype) for p in model.parameters() if p.dtype in DTYPES}
    for device, dtype in used:
        chosen = choose_backend(backend, device)
        for each in thresholds:
            chosen.warm_up(device, dtype, each)


def _device_of(model: nn.Module) -> torch.device:
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def _channel_dims(
    model: nn.Module,
    modules: Mapping[str, nn.Module],
    of: str,
    asked: str | int | Mapping[Selector, int],
) -> dict[str, ChannelRule | int]:
    if isinstance(asked, int):
        return dict.fromkeys(modules, asked)
    rules = channel_rules(model, of)
    dims: dict[str, ChannelRule | int] = {n: rules["" if n == ROOT else n] for n in modules}
    if isinstance(asked, Mapping):
        for selector, dim in asked.items():
            chosen = fitting(selector, modules, "channel_dim")
            if not isinstance(dim, int):
                raise FmstatsError(f"channel_dim of {selector!r} is {dim!r}: give a dim")
            dims |= dict.fromkeys(chosen, dim)
    elif asked != "auto":
        raise FmstatsError(
            f"channel_dim={asked!r}: choose 'auto', a dim, or a mapping of selectors to dims"
        )
    return dims


class Tracker:
    """The hooks on a model and what they have seen. Made by `track`."""

    def __init__(
        self,
        model: nn.Module,
        modules: Mapping[str, nn.Module],
        specs: Mapping[str, LayerSpec],
        *,
        of: str,
        when: str,
        sampling: Sampling,
        per_call: bool,
    ) -> None:
        self._specs = dict(specs)
        self._metadata = {
            "model": type(model).__name__,
            **{"of": of, "when": when, "per_call": per_call},
            **{"fmstats": __version__, "torch": torch.__version__},
        }
        self._gate = Gate()
        self._layers: dict[str, Layer] = {}
        self._per_call: dict[str, PerCall] = {}
        if per_call:
            self._per_call = {name: PerCall(spec, self._gate) for name, spec in specs.items()}
        else:
            self._layers = {name: Layer(spec, self._gate) for name, spec in specs.items()}
        order = graph.new_order()
        self._sampling = sampling
        self._passes = PassHook(self._gate, sampling, list(self._per_call.values()), order, when)
        handles = [model.register_forward_pre_hook(self._passes, prepend=True)]
        # Called by close() or when nothing refers to the tracker any more, whichever is first.
        self._remove_hooks = weakref.finalize(self, _remove, handles, self._gate)
        for name, module in modules.items():
            layer: Folding = self._per_call[name] if per_call else self._layers[name]
            if sampling.timed:
                layer = Timed(layer, sampling)
            if of == "input":
                hook = InputHook(layer, self._gate, order)
                handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
            else:
                kind = OutputHook if of == "output" else GradientHook
                handles.append(module.register_forward_hook(kind(layer, self._gate, order)))
        if sampling.timed:
            end = EndHook(self._passes, order)
            handles.append(model.register_forward_hook(end, always_call=True))

    def stats(self, group: object = None) -> Profile:
        """What has been seen so far, on the host; the only call that waits for a device.

        Args:
            group: a process group of torch.distributed, or "world": every rank of it calls this,
                and gets the profile of all ranks together, the same bits on each.
        """
        fired = sorted(
            (layer for name in self._specs for layer in self._rows_of(name)),
            key=lambda layer: -1 if layer.order is None else layer.order,
        )
        seen = {layer.spec.name: layer.profile() for layer in fired}
        counted = {"passes": self._passes.passes, "passes_measured": self._passes.measured}
        info = {name: profile for name, profile in seen.items() if profile is not None}
        used = {key: value for layer in fired for key, value in layer.backends().items()}
        sampled = self._sampling.describe()
        profile = Profile(info, {**self._metadata, **sampled, **counted, "backends": used})
        return profile if group is None else merge_ranks(profile, group)

    def coverage(self) -> Coverage:
        """Which of the selected layers were measured, and why the others were not."""
        rows = []
        for name, spec in self._specs.items():
            layers = self._rows_of(name)
            calls = sum(layer.calls for layer in layers)
            reason = next((layer.reason for layer in layers if layer.reason), None)
            status = "skipped" if reason else "tracked" if calls else "never fired"
            rows.append(CoverageRow(name, spec.type, status, reason, calls))
        return Coverage(rows)

    def _rows_of(self, name: str) -> list[Layer]:
        return self._per_call[name].layers if self._per_call else [self._layers[name]]

    def pause(self) -> None:
        """Measure nothing until `resume()`; the hooks stay."""
        self._gate.set(paused=True)

    def resume(self) -> None:
        """Measure again after `pause()`."""
        self._gate.set(paused=False)

    def reset(self) -> None:
        """Forget all that was seen; the hooks stay."""
        self._passes.reset()
        for name in self._specs:
            for layer in self._rows_of(name):
                layer.reset()

    def close(self) -> None:
        """Remove every hook; `stats()` and `coverage()` still answer. May be called twice."""
        self._remove_hooks()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = (
            "closed" if not self._remove_hooks.alive else "paused" if self._gate.paused else "on"
        )
        model, passes = self._metadata["model"], self._passes.passes
        return f"Tracker({model}, {len(self._specs)} layers, {passes} passes, {state})"


def _remove(handles: list[RemovableHandle], gate: Gate) -> None:
    gate.set(closed=True)  # for those that graphs go on calling
    for handle in handles:
        handle.remove()
    handles.clear()

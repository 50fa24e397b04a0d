"""`track` measures every layer's feature maps, by forward hooks, while a model runs."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping
from types import TracebackType

import torch
import torch.nn as nn

from fmstats._version import __version__
from fmstats.errors import FmstatsError
from fmstats.models.saturation import Bounds
from fmstats.models.selection import Selection, Selector, select
from fmstats.models.wrappers import hash_structure, unwrap_compiled
from fmstats.operations.watching import Watch
from fmstats.profiles.coverage import Coverage
from fmstats.profiles.metadata import read_count
from fmstats.profiles.profile import Profile
from fmstats.profiles.ranks import merge_ranks, refuse_split_channels
from fmstats.tracking import compiled as graph
from fmstats.tracking import taps
from fmstats.tracking.covering import cover
from fmstats.tracking.functional import FunctionalLayers
from fmstats.tracking.gates import Gate
from fmstats.tracking.hooks import Handle
from fmstats.tracking.layer_set import LayerSet
from fmstats.tracking.layers import Layer, LayerSpec, take_profiles
from fmstats.tracking.options import TrackOptions
from fmstats.tracking.pass_hooks import EndHook, PassHook
from fmstats.tracking.restoring import match_rows
from fmstats.tracking.specs import choose_sampling, choose_specs, warm_up


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
    on_error: str = "warn",
    saturation: Mapping[Selector, Bounds] | None = None,
    warmup: bool = False,
    functional: bool | str | Collection[str] = "auto",
    grad_scale: object = None,
) -> Tracker:
    """Measure a model's feature maps from now on.

    Use it as a context manager, or keep the tracker and `close()` it. A tracker that nothing refers
    to any more removes its hooks by itself.

    Args:
        model: any module. It is not changed apart from its hooks.
        include: a name, a glob, a compiled regex, a module type, a function of (name, module), or a
            list of these (see `fmstats.models.selection`). Default: every leaf module.
        exclude: what to leave out of these, in the same words.
        of: "output" of each layer, its "input", or "grad_output": the gradient that flows back into
            its output.
        when: measure the forward passes of `model` in "train" or "eval" mode, or "always".
        every: measure the first of every `every` of these passes.
        budget: measure as many of them as cost at most this share of their time, instead of
            `every`: 0.01 for a hundredth. By the host's clock.
        channel_dim: "auto" (see `fmstats.models.channel_dims`), a dim for all layers, or dims by
            selector.
        zero_tol: |x| <= zero_tol counts as zero.
        backend: one of `fmstats backends`, or "auto": the best for each tensor's device.
        per_call: keep a row `name#i` for the i-th call of a layer in a forward pass.
        on_error: where a layer cannot be measured as asked: "warn" once and stop measuring that
            layer, or "raise" in the forward pass.
        saturation: bounds (low, high) by selector, instead of those of `fmstats.models.saturation`.
        warmup: compile kernels now, for tensors of the dtype of the model's parameters, instead of
            in the first forward pass.
        functional: rows for operations that are no modules, as `F.relu(x)` and `x + y` in the
            `forward` of a module `layer1.0`: `layer1.0/relu`, `layer1.0/add` (see docs/options.md).
            "auto": activations, pooling, interpolation, normalisation, attention, and joins of two
            feature maps, but not within modules that are one operation themselves; True: also
            within these; False: none; names of operations ("relu") or globs of rows: those alone.
        grad_scale: of="grad_output" alone: what the loss is multiplied by before its backward pass,
            a torch.amp.GradScaler, a number or a function that returns one. Gradients are told
            without it. It is asked once a backward pass.

    Raises:
        FmstatsError: nothing to track, a selector that matches nothing, an unknown option.

    Examples:
        >>> import torch
        >>> with fmstats.track(model := torch.nn.ReLU()) as tracker:
        ...     out = model(torch.tensor([[-1.0, 2.0]]))
        >>> print(tracker.stats()["(model)"].zeros)
        [1 0]
    """
    if not isinstance(model, nn.Module):
        hint = ": torch.export.unflatten(program) is one"
        raise FmstatsError(
            f"track() takes a torch.nn.Module, got {type(model).__name__}"
            + (hint if type(model).__name__ == "ExportedProgram" else "")
        )
    options = TrackOptions(
        include=include,
        exclude=exclude,
        of=of,
        when=when,
        every=every,
        budget=budget,
        channel_dim=channel_dim,
        zero_tol=zero_tol,
        backend=backend,
        per_call=per_call,
        on_error=on_error,
        saturation=saturation,
        warmup=warmup,
        functional=functional,
        grad_scale=grad_scale,
    )
    return start_tracking(model, options)


def start_tracking(model: nn.Module, options: TrackOptions) -> Tracker:
    """Track a model with options that were checked before.

    Raises:
        FmstatsError: nothing to track, a selector that matches nothing, a dim or a backend that
            the model cannot have.
    """
    model = unwrap_compiled(model)
    modules = select(model, options.include, options.exclude)
    specs = choose_specs(model, modules, options)
    if options.warmup:
        warm_up(model, specs)
    return Tracker(model, modules, specs, options)


class Tracker:
    """A tracker holds the hooks on a model and what they have seen; `track` makes it.

    Examples:
        >>> import torch
        >>> tracker = fmstats.track(model := torch.nn.ReLU())
        >>> out = model(torch.ones(8, 4))
        >>> tracker
        Tracker(ReLU, 1 layers, 1 passes, on)
    """

    def __init__(
        self,
        model: nn.Module,
        modules: Mapping[str, nn.Module],
        specs: Mapping[str, LayerSpec],
        options: TrackOptions,
    ) -> None:
        self._metadata = {
            "model": type(model).__name__,
            **options.kept(),
            **{"fmstats": __version__, "torch": torch.__version__},
            **{"structure": hash_structure(model)},
        }
        # Weakly: a tracker keeps no model alive.
        self._model = weakref.ref(model)
        self._modules = {name: weakref.ref(module) for name, module in modules.items()}
        op_token = graph.new_op_token()
        self._sampling = sampling = choose_sampling(options)
        self._gate = Gate()
        self._set = LayerSet(options, self._gate, op_token, sampling)
        self.hooks = self._set.hooks
        self._functional = FunctionalLayers(model, options, self._gate, self._set.add)
        if options.functional is not False or options.channel_dim_follows:
            self._gate.watch = Watch(self._functional)
        taps.begin(self._functional)
        self._passes = PassHook(self._gate, sampling, self._set.per_call, op_token, options.when)
        first = model.register_forward_pre_hook(self._passes, prepend=True, with_kwargs=True)
        handles: list[Handle] = [first, self._passes, self._functional]
        graph.hook_guards.begin()
        # Called by close() or when nothing refers to the tracker any more, whichever is first.
        self._remove_hooks = weakref.finalize(self, _remove, handles, self._gate)
        for name, module in modules.items():
            handles += self._set.add_module(specs[name], module)
        if sampling.timed:
            end = EndHook(self._passes, op_token)
            handles.append(model.register_forward_hook(end, always_call=True))

    def stats(self, group: object = None) -> Profile:
        """Return what has been seen so far. Only this and `reset()` wait for a device.

        While the model runs in another thread, each layer has whole batches, and one layer may be
        a batch ahead of another.

        Args:
            group: a process group of torch.distributed, or "world": every rank of it calls this,
                and gets the profile of all ranks together, the same bits on each.
        """
        layers = self.layers
        info = take_profiles(layers)
        counted = {"passes": self._passes.passes, "passes_measured": self._passes.measured}
        rows = (row for layer in layers for row in layer.rows)
        used = {key: value for row in rows for key, value in row.backends().items()}
        sampled = self._sampling.describe()
        profile = Profile(info, {**self._metadata, **sampled, **counted, "backends": used})
        if group is None:
            return profile
        refuse_split_channels(profile, {name: found() for name, found in self._modules.items()})
        return merge_ranks(profile, group)

    def coverage(self) -> Coverage:
        """Tell which of the selected layers were measured, and why the others were not."""
        unseen = self._functional.list_unseen(self._model())
        return cover(self._set.layers, self._gone(), unseen)

    def _gone(self) -> set[str]:
        """Return the layers that are not in the model any more."""
        model = self._model()
        if model is None:
            return set()
        inside = set(map(id, model.modules()))
        return {name for name, module in self._modules.items() if id(module()) not in inside}

    @property
    def layers(self) -> list[Layer]:
        """Return the layers, or their calls under `per_call`, as they are being filled."""
        return [layer for found in self._set.layers.values() for layer in found.layers]

    @property
    def pass_hook(self) -> PassHook:
        """Return what counts forward passes, and chooses those that are measured."""
        return self._passes

    def restore(self, profile: Profile) -> None:
        """Go on from what another tracker of this model has seen.

        The next tensors update the same numbers: together they are, bit for bit, what one
        tracker would have seen. `every` and `budget` begin anew.

        Args:
            profile: of that tracker; it is not changed.

        Raises:
            FmstatsError: this tracker has seen something itself, or the profile is of another
                model, of other layers, options or thresholds; nothing is restored.
        """
        if any(layer.calls for layer in self.layers):
            raise FmstatsError("restore() is for a tracker that has seen nothing: reset() it first")
        found = match_rows(profile, self._metadata, self._set, self._functional)
        for layer in self.layers:
            layer.begin_anew()
        for index, (row, layer) in enumerate(found):
            layer.restore(row, index)
        self._gate.started = len(found)
        counts = (read_count(profile.metadata, key) or 0 for key in ("passes", "passes_measured"))
        self._passes.passes, self._passes.measured = counts

    def pause(self) -> None:
        """Measure nothing until `resume()`; the hooks stay."""
        self._gate.set(paused=True)

    def resume(self) -> None:
        """Measure again after `pause()`."""
        self._gate.set(paused=False)

    def reset(self) -> None:
        """Forget all that was seen; the hooks stay."""
        self._passes.reset()
        for layer in self._set.layers.values():
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
        return f"Tracker({model}, {len(self._set.layers)} layers, {passes} passes, {state})"


def _remove(handles: list[Handle], gate: Gate) -> None:
    gate.set(closed=True)  # for those that graphs go on calling
    for handle in handles:
        handle.remove()
    handles.clear()
    graph.hook_guards.end()

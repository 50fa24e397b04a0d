"""`Tracker` holds the hooks on a model, and what they have seen."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Literal, overload

import torch
import torch.nn as nn

from fmstats._version import __version__
from fmstats.errors import FmstatsError
from fmstats.models.wrappers import hash_structure
from fmstats.operations.watching import Watch
from fmstats.profiles.coverage import Coverage
from fmstats.profiles.experts import add_idle
from fmstats.profiles.metadata import read_count
from fmstats.profiles.profile import Profile
from fmstats.profiles.ranks import merge_ranks, refuse_split_channels
from fmstats.tracking import compiled as graph
from fmstats.tracking import taps
from fmstats.tracking.covering import cover
from fmstats.tracking.functional import FunctionalLayers
from fmstats.tracking.gates import Gate
from fmstats.tracking.group_names import GroupNames
from fmstats.tracking.hook_guards import hook_guards
from fmstats.tracking.hooks import Handle
from fmstats.tracking.layer_set import LayerSet
from fmstats.tracking.layer_spec import LayerSpec
from fmstats.tracking.layers import Layer
from fmstats.tracking.options import TrackOptions
from fmstats.tracking.pass_hooks import AskingPassHook, EndHook, PassHook
from fmstats.tracking.positions import PositionReader
from fmstats.tracking.reading import take_profiles
from fmstats.tracking.restoring import match_rows, split_by_row
from fmstats.tracking.specs import choose_sampling


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
        self._gate = Gate()
        self._sampling = sampling = choose_sampling(options, self._gate.clocks)
        self._set = LayerSet(options, self._gate, sampling)
        self.hooks = self._set.hooks
        self._functional = FunctionalLayers(model, options, self._gate, self._set.add)
        self._group_names = GroupNames(options.group_names)
        self._positions = PositionReader(model, options)
        self._gate.positions = self._positions if self._positions.asks else None
        if options.functional is not False or options.channel_dim_follows or self._positions.asks:
            self._gate.watch = Watch(self._functional)
        taps.begin(self._functional)
        per_call = self._set.per_call if options.per_call else None
        kind = AskingPassHook if self._positions.asks else PassHook
        self._passes = kind(self._gate, sampling, per_call, options.when, self._set.watch)
        first = model.register_forward_pre_hook(self._passes, prepend=True, with_kwargs=True)
        graph.store_in_order(model._forward_pre_hooks)
        handles: list[Handle] = [first, self._passes, self._functional]
        hook_guards.begin()
        # Called by close() or when nothing refers to the tracker any more, whichever is first.
        self._remove_hooks = weakref.finalize(self, _remove, handles, self._gate)
        for name, module in modules.items():
            handles += self._set.add_module(specs[name], module)
        if sampling.timed:
            end = EndHook(self._passes)
            handles.append(model.register_forward_hook(end, always_call=True))

    @overload
    def stats(self, group: object = None, *, by: None = None) -> Profile: ...
    @overload
    def stats(self, group: object = None, *, by: Literal["group"]) -> dict[str, Profile]: ...
    def stats(
        self, group: object = None, *, by: Literal["group"] | None = None
    ) -> Profile | dict[str, Profile]:
        """Return what has been seen so far. Only this and `reset()` wait for a device.

        While the model runs in another thread, each layer has whole batches, and one layer may be
        a batch ahead of another.

        Args:
            group: a process group of torch.distributed, or "world": every rank of it calls this,
                and gets the profile of all ranks together, the same bits on each.
            by: "group": a profile for each group of positions, by its name; they are also the
                `groups` of the profile of all positions together.

        Raises:
            FmstatsError: `by` is something else, the ranks do not fit together, or a GPU has seen
                a group beyond `max_groups`, which is told of once.
        """
        if by not in (None, "group"):
            raise FmstatsError(f"stats(by={by!r}): choose 'group', or None for all together")
        self._positions.groups.check()
        layers = self.layers
        info, by_number = take_profiles(layers)
        info = add_idle(info, [layer.spec.row_name for layer in self._set.layers.values()])
        groups = {self._group_names[number]: rows for number, rows in by_number.items()}
        passes, measured = self._passes.count()
        counted = {"passes": passes, "passes_measured": measured}
        rows = (row for layer in layers for row in layer.rows)
        used = {key: value for row in rows for key, value in row.backends().items()}
        sampled = self._sampling.describe()
        known = {**self._metadata, **sampled, **counted, "backends": used}
        profile = Profile(info, known, groups)
        if group is not None:
            modules = {name: found() for name, found in self._modules.items()}
            refuse_split_channels(profile, modules)
            profile = merge_ranks(profile, group)
        return profile if by is None else profile.groups

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
        return self._set.list_layers()

    @property
    def pass_hook(self) -> PassHook:
        """Return what counts forward passes, and chooses those that are measured."""
        return self._passes

    @property
    def step(self) -> int | None:
        """Return the user's step, such as that of an optimizer; None if none was told.

        Set it before each forward pass, and `ChannelStats.first_step` tells in which step the first
        element of a channel was NaN or infinite, as `first_pass` tells the forward pass. A step
        that is counted anew in each epoch cannot tell: `first_step` keeps the smallest.

        Raises:
            FmstatsError: it is set to something that is no integer from 0 on.
        """
        return self._gate.clocks.step

    @step.setter
    def step(self, step: int | None) -> None:
        self._gate.clocks.set_step(step)

    def restore(self, profile: Profile) -> None:
        """Go on from what another tracker of this model has seen.

        The next tensors update the same numbers: together they are, bit for bit, what one
        tracker would have seen; moments of groups up to rounding. `every` and `budget` begin anew.

        Args:
            profile: of that tracker; it is not changed.

        Raises:
            FmstatsError: this tracker has seen something itself, or the profile is of another
                model, of other layers, options or thresholds; nothing is restored.
        """
        if any(layer.count_calls() for layer in self.layers):
            raise FmstatsError("restore() is for a tracker that has seen nothing: reset() it first")
        found = match_rows(profile, self._metadata, self._set, self._functional)
        for layer in self.layers:
            layer.begin_anew()
        of_groups = split_by_row(profile, self._group_names)
        for index, (row, layer) in enumerate(found):
            layer.restore(row, of_groups.get(row.key, {}), index)
        self._gate.started = len(found)
        passes = read_count(profile.metadata, "passes") or 0
        measured = read_count(profile.metadata, "passes_measured") or 0
        # reset() forgets passes, but not the time.
        known = [int(stats.first_pass.max(initial=0)) for stats in profile.values()]
        self._passes.go_on_from(passes, measured, time=max(passes, *known, 0))
        if self._set.watch is not None:
            self._set.watch.skip()

    @contextmanager
    def positions(
        self, mask: torch.Tensor | None = None, *, groups: torch.Tensor | None = None
    ) -> Iterator[None]:
        """Count, of the forward passes of this thread within it, the positions that a mask keeps.

        What `mask=` and `groups=` of `track` say is left aside meanwhile.

        Args:
            mask: (N,), (N, T) or (N, H, W), bool or 0 and 1, as the inputs lie; None: all count.
            groups: of such shapes, whole numbers: the groups, from 0 on, or -1 for none.

        Raises:
            FmstatsError: these are no tensors of such shapes, or compiled graphs count all.

        Examples:
            >>> import torch
            >>> tracker = fmstats.track(model := torch.nn.Linear(4, 2))
            >>> x, mask = torch.ones(2, 3, 4), torch.tensor([[1, 1, 0], [1, 0, 0]])
            >>> with tracker.positions(mask):
            ...     out = model(x)
            >>> print(tracker.stats()["(model)"].count)
            [3 3]
        """
        self._gate.positions = self._positions
        if self._gate.watch is None:
            self._gate.watch = Watch(self._functional)
        with self._positions.giving(mask, groups):
            for layer in self.layers:
                layer.forget_ways()
            self._metadata["masked"] |= mask is not None
            yield

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
        if self._set.watch is not None:
            self._set.watch.forget()

    def close(self) -> None:
        """Remove every hook; `stats()` and `coverage()` still answer. May be called twice.

        Raises:
            NonFiniteError: what a GPU has measured last was not finite, and
                `on_nonfinite="raise"`; the hooks are gone.
        """
        was_open = self._remove_hooks.alive
        self._remove_hooks()
        if was_open and self._set.watch is not None:
            self._set.watch.close()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:  # the device may be of no use any more, and the first error is the one to be seen
            self._remove_hooks()

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
    hook_guards.end()

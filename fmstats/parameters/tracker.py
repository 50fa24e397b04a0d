"""`track_parameters` measures weights, gradients and updates in training."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
import torch.nn as nn
from torch import Tensor

from fmstats._version import __version__
from fmstats.errors import FmstatsError, check_whole
from fmstats.models.wrappers import hash_structure
from fmstats.parameters.changes import Changes
from fmstats.parameters.choice import (
    Selection,
    choose_parameters,
    is_frozen,
    list_stepped,
    local_part,
)
from fmstats.parameters.gradients import read_gradients
from fmstats.parameters.kinds import KINDS, check_kinds, name_kind
from fmstats.parameters.optimizer_hooks import hook
from fmstats.parameters.series import Series
from fmstats.parameters.shards import find_share, join_ranks, refuse_flattened, widen
from fmstats.profiles.coverage import Coverage, CoverageRow
from fmstats.profiles.profile import Profile
from fmstats.profiles.updates import OF_PARAMETERS
from fmstats.statistic.host_copies import copy_to_host
from fmstats.statistic.thresholds import Thresholds
from fmstats.tracking.clocks import Clocks


def track_parameters(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    include: Selection = None,
    exclude: Selection = None,
    *,
    of: str | Collection[str] = KINDS,
    every: int = 1,
    zero_tol: float = 0.0,
    backend: str = "auto",
) -> ParameterTracker:
    """Measure the parameters of a model in training, per output channel.

    At one step of the optimizer in `every`, its hooks measure the weights before the step, then the
    gradients and what the step has changed. No step waits for the device, and the weights come out
    the same, bit for bit. A measured step holds a copy of the parameters while it runs.

    The rows of the profile are called `conv1.weight`, `conv1.weight/gradient` and
    `conv1.weight/update`; their types are "parameter", "gradient" and "update", or "frozen
    parameter" and "frozen update" of parameters that the optimizer does not have or that need no
    gradient. One that is trained later is no longer called frozen. `Profile.update_ratios()` tells
    the size of updates relative to the weights, and `ChannelStats.first_step` the step of the first
    NaN, counted from 0.

    Args:
        model: whose parameters. Tied ones are measured once, under their first name.
        optimizer: what steps; None: nothing is measured but by `ParameterTracker.measure`.
        include: names, globs, compiled regular expressions or functions of (name, parameter), or a
            list of these; None: all parameters.
        exclude: the same, of those to leave out.
        of: what to measure, some of "weight", "gradient" and "update".
        every: one step in so many is measured, beginning with the first.
        zero_tol: |x| <= zero_tol counts as zero.
        backend: one of `fmstats backends`, or "auto".

    Raises:
        FmstatsError: a selector that fits nothing, an unknown `of`, updates without an optimizer
            that were asked for by name, an optimizer of other parameters, a bad number, or a model
            in FullyShardedDataParallel.

    Examples:
        >>> import torch
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        >>> with fmstats.track_parameters(model, optimizer) as tracker:
        ...     for _ in range(3):
        ...         optimizer.zero_grad()
        ...         model(torch.ones(8, 4)).sum().backward()
        ...         optimizer.step()
        >>> profile = tracker.stats()
        >>> print(profile["weight/gradient"].mean, profile["weight/update"].mean.round(3))
        [8. 8.] [-4. -4.]
    """
    return ParameterTracker(
        model,
        optimizer,
        include,
        exclude,
        of=of,
        every=every,
        zero_tol=zero_tol,
        backend=backend,
    )


class ParameterTracker:
    """A parameter tracker keeps the statistics of parameters; `track_parameters` makes it.

    It is a context manager: leaving it removes its hooks, and the numbers stay.

    Attributes:
        steps: steps of the optimizer since the beginning, or since `reset()`.
        steps_measured: those of them that were measured, and calls of `measure()`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        include: Selection,
        exclude: Selection,
        *,
        of: str | Collection[str],
        every: int,
        zero_tol: float,
        backend: str,
    ) -> None:
        kinds = check_kinds(of, optimizer)
        check_whole("every", every)
        if not (optimizer is None or isinstance(optimizer, torch.optim.Optimizer)):
            raise FmstatsError(
                f"optimizer is of type {type(optimizer).__name__}: give a torch.optim.Optimizer, "
                "or None to measure by measure()"
            )
        refuse_flattened(model)
        self._chosen, self._left_out = choose_parameters(model, include, exclude, optimizer)
        self._shares = {c.name: find_share(c.name, c.parameter) for c in self._chosen}
        thresholds, self._clocks = Thresholds(zero_tol), Clocks()
        self._series = {
            (chosen.name, kind): Series(
                *(name_kind(kind, chosen.frozen), chosen.channel_dim, thresholds, backend),
                self._clocks,
            )
            for chosen in self._chosen
            for kind in KINDS
            if kind in kinds
        }
        self._kinds, self._every = kinds, every
        self._metadata = {
            **{"model": type(model).__name__, "of": OF_PARAMETERS, "every": every},
            **{"optimizer": None if optimizer is None else type(optimizer).__name__},
            **{"fmstats": __version__, "torch": torch.__version__},
            **{"structure": hash_structure(model)},
        }
        self.steps = self.steps_measured = 0
        self._paused = False
        self._changes: Changes | None = None
        self._measuring = False
        self._remove = hook(optimizer, self)

    def __enter__(self) -> ParameterTracker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the hooks; the numbers stay."""
        self._remove()

    def pause(self) -> None:
        """Measure no step, until `resume()`."""
        self._paused = True

    def resume(self) -> None:
        """Measure steps again."""
        self._paused = False

    def reset(self) -> None:
        """Forget all that was measured."""
        for series in self._series.values():
            series.reset()
        self.steps = self.steps_measured = 0

    def measure(self) -> None:
        """Measure the weights and gradients as they are now.

        It is for training without an optimizer of torch's, or for one that steps within the
        backward pass: call it between `backward()` and what changes the weights.
        """
        self._clocks.set_step(self.steps_measured)
        if self._metadata["optimizer"] is None:
            self._thaw(None)
        self._measure("weight", self._parts())
        self._measure_gradients(None)
        self.steps_measured += 1

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Begin a step of the optimizer: its hook calls this.

        Args:
            optimizer: it is about to step.
        """
        self._measuring = not self._paused and self.steps % self._every == 0
        self._changes = None  # of a step that has failed
        self.steps += 1
        if not self._measuring:
            return
        self._clocks.set_step(self.steps - 1)
        self._thaw(optimizer)
        if "update" in self._kinds:
            self._changes = Changes(self._parts())
        else:
            self._measure("weight", self._parts())

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """End a step of the optimizer: its hook calls this.

        Args:
            optimizer: it has just stepped.
        """
        if not self._measuring:
            return
        self._measuring = False
        if self._changes is not None:
            # The weights come from the copies, so that a step that fails counts in neither row.
            changes, self._changes = self._changes, None
            self._measure("weight", changes.before)
            self._measure("update", changes.since(self._parts()))
        # Now, not before: by then a fused optimizer has unscaled them, and a closure made them.
        self._measure_gradients(optimizer)
        self.steps_measured += 1

    def _parts(self) -> list[Tensor]:
        return [local_part(chosen.parameter) for chosen in self._chosen]

    def _thaw(self, optimizer: torch.optim.Optimizer | None) -> None:
        """Call those parameters frozen no longer that are trained by now."""
        if not any(chosen.frozen for chosen in self._chosen):
            return
        stepped = list_stepped(optimizer)
        for index, chosen in enumerate(self._chosen):
            if chosen.frozen and not is_frozen(chosen.parameter, stepped):
                self._chosen[index] = replace(chosen, frozen=False)
                for kind in self._kinds:
                    self._series[chosen.name, kind].kind = name_kind(kind, frozen=False)

    def _measure(self, kind: str, tensors: list[Tensor]) -> None:
        if kind not in self._kinds:
            return
        for chosen, tensor in zip(self._chosen, tensors, strict=True):
            self._series[chosen.name, kind].update(tensor)

    def _measure_gradients(self, optimizer: torch.optim.Optimizer | None) -> None:
        if "gradient" in self._kinds:
            trained = [chosen for chosen in self._chosen if not chosen.frozen]
            for name, gradient in read_gradients(trained, optimizer):
                self._series[name, "gradient"].update(gradient)

    def stats(self, group: object = None) -> Profile:
        """Return what has been seen so far. Only this and `reset()` wait for a device.

        Args:
            group: a process group of torch.distributed, or "world": every rank of it calls this,
                and gets the same profile. Of parameters that all ranks hold, as under
                DistributedDataParallel, the first rank's numbers stand for all; of those that
                `fully_shard` cuts, the parts come together.

        Raises:
            FmstatsError: the ranks do not fit together.
        """
        filled = [(key, series) for key, series in self._series.items() if series.calls]
        states = [series.states for _, series in filled]
        copies = iter(copy_to_host([state for some in states for state in some]))
        rows, shared = {}, []
        for ((name, kind), series), some in zip(filled, states, strict=True):
            row = series.profile([next(copies) for _ in some])
            share = self._shares[name]
            called = name if kind == "weight" else f"{name}/{kind}"
            rows[called] = row if share is None else widen(row, share)
            if share is not None:
                shared.append(called)
        counted = {"steps": self.steps, "steps_measured": self.steps_measured}
        missing = [
            {"name": row.name, "type": row.type, "status": row.status, "reason": row.reason}
            for row in self.coverage()
            if row.status != "tracked"
        ]
        profile = Profile(rows, {**self._metadata, **counted, "coverage": missing})
        return profile if group is None else join_ranks(profile, shared, group)

    def coverage(self) -> Coverage:
        """Tell which parameters were measured, and why others were not."""
        rows = [CoverageRow(r.name, "parameter", "skipped", r.reason, 0) for r in self._left_out]
        frozen = {chosen.name for chosen in self._chosen if chosen.frozen}
        for (name, kind), series in self._series.items():
            if kind == "gradient" and name in frozen:
                continue  # it has none, as it is meant to be
            status = "tracked" if series.calls else "skipped" if series.reason else "never fired"
            called = name if kind == "weight" else f"{name}/{kind}"
            rows.append(CoverageRow(called, series.kind, status, series.reason, series.calls))
        return Coverage(rows)

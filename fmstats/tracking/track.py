"""`track` measures every layer's feature maps, by forward hooks, while a model runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch.nn as nn

from fmstats.errors import FmstatsError
from fmstats.models.saturation import Bounds
from fmstats.models.selection import Selection, Selector, select
from fmstats.models.wrappers import unwrap_compiled
from fmstats.tracking.arguments import Reader
from fmstats.tracking.nonfinite import Action
from fmstats.tracking.options import TrackOptions
from fmstats.tracking.specs import choose_specs, warm_up
from fmstats.tracking.tracker import Tracker


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
    on_nonfinite: str | Action = "ignore",
    mask: str | Reader | Mapping[Selector, str | Reader] | None = None,
    mask_mismatch: str = "skip",
    groups: str | Reader | None = None,
    group_names: Sequence[str] | Mapping[int, str] | None = None,
    max_groups: int = 64,
    measure: str | Collection[str] | None = None,
    histogram: str = "layer",
    resolution: int = 4,
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
            `every`: 0.01 for a hundredth. By the host's clock, and on a GPU by its clock as well.
            The first pass is measured and not counted, and three more tell what one costs.
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
        on_nonfinite: where a layer has its first NaN or infinity: "ignore", "warn", "raise", or a
            function that takes a `NonFiniteEvent`. Of the layers that have theirs in one forward
            pass it receives the first to run. On a CPU this happens within that pass, behind that
            layer; on a GPU, which nobody waits for, when a later pass begins, or in `close()`.
        mask: count only the positions that a mask keeps, such as tokens that are no padding: the
            name of an argument of forward(), "auto" for attention_mask and its like, or a function
            of (args, kwargs) that returns a tensor of shape (N,), (N, T) or (N, H, W), bool or 0
            and 1, or None where all count. Layers that it does not reach, as behind a strided
            convolution, are told one of their own by a mapping of selectors, in which "(inputs)"
            is that of the inputs (see docs/positions.md).
        mask_mismatch: what to do with tensors that the mask does not fit: "skip" them, "count" all
            of their positions, or "raise".
        groups: keep statistics of each class, timestep or domain as well: the name of an argument
            of forward(), or a function as `mask`, that gives whole numbers from 0 on; -1 for
            positions of no group, which do not count.
        group_names: what the groups are called, in order or by their numbers; None: by these.
        max_groups: a group beyond so many is refused.
        measure: what to measure as well, one or several of "abs" (`ChannelStats.mean_abs`),
            "kurtosis" (and `skewness`), "histogram" (`quantile`, `share_above`, ...).
        histogram: keep one of each "layer", or of each "channel". There is a warning before those
            of all layers take 64 MB, and an error, see `on_error`, for a layer with which they
            would take more than half of the free memory.
        resolution: 0 to 6: each octave of a histogram has `2**resolution` bins.
        grad_scale: of="grad_output" alone: what the loss is multiplied by before its backward pass,
            a torch.amp.GradScaler, a number or a function that returns one. Gradients are told
            without it. It is asked once a backward pass.

    Raises:
        FmstatsError: nothing to track, a selector that matches nothing, an unknown option.
            `NonFiniteError`, which is one, is raised by the model, see `on_nonfinite`.

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
        on_nonfinite=on_nonfinite,
        mask=mask,
        mask_mismatch=mask_mismatch,
        groups=groups,
        group_names=group_names,
        max_groups=max_groups,
        measure=measure,
        histogram=histogram,
        resolution=resolution,
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

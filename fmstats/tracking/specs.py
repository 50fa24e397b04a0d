"""These functions check what `track` is asked for: which passes, and what of each layer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn as nn

from fmstats.backends import DTYPES, choose_backend
from fmstats.errors import FmstatsError
from fmstats.models.channel_dims import ChannelRule, channel_rules
from fmstats.models.experts import find_numbers, global_name
from fmstats.models.saturation import chosen_bounds
from fmstats.models.selection import ROOT, Selector, fitting
from fmstats.statistic.thresholds import Thresholds
from fmstats.tracking.budget import Budget
from fmstats.tracking.clocks import Clocks
from fmstats.tracking.device_time import DeviceTimers
from fmstats.tracking.layer_spec import LayerSpec
from fmstats.tracking.mask_choice import MaskChoice
from fmstats.tracking.options import TrackOptions
from fmstats.tracking.sampling import Every, Sampling


def choose_specs(
    model: nn.Module, modules: Mapping[str, nn.Module], options: TrackOptions
) -> dict[str, LayerSpec]:
    """Choose what is measured of each module.

    Raises:
        FmstatsError: a module without hooks, a backend that cannot be used, a selector that
            matches nothing, a wrong dim.
    """
    _refuse_scripts({ROOT: model, **modules})
    if options.backend != "auto":
        choose_backend(options.backend, device_of(model))
    dims = _channel_dims(model, modules, options.of, options.channel_dim)
    bounds = chosen_bounds(modules, options.of, options.saturation)
    told = MaskChoice(options.mask).names_of(modules)
    numbers = find_numbers(model)
    return {
        name: LayerSpec(
            name=name,
            type=type(module).__name__,
            channels=dims[name],
            thresholds=Thresholds(options.zero_tol, *bounds[name]),
            of=options.of,
            backend=options.backend,
            on_error=options.on_error,
            mask_mismatch=options.mask_mismatch,
            told_mask=told.get(name),
            row=global_name(name, numbers),
            measures=options.measures,
        )
        for name, module in modules.items()
    }


def choose_sampling(options: TrackOptions, clocks: Clocks) -> Sampling:
    """Choose which passes are measured; the clocks are those of the tracker."""
    if options.budget is None:
        return Every(options.every)
    return Budget(options.budget, DeviceTimers(clocks))


def _refuse_scripts(modules: Mapping[str, nn.Module]) -> None:
    scripts = [n for n, module in modules.items() if isinstance(module, torch.jit.ScriptModule)]
    if scripts:
        raise FmstatsError(
            f"{scripts[0]!r} is TorchScript, which calls no Python hooks: track the module that it "
            "was made from, or leave it out with exclude="
        )


def warm_up(model: nn.Module, specs: Mapping[str, LayerSpec]) -> None:
    """Compile what the layers will need, for the devices and dtypes of the model's parameters."""
    used = {(p.device, p.dtype) for p in model.parameters() if p.dtype in DTYPES}
    for device, dtype in used:
        for backend, thresholds, measures in {
            (s.backend, s.thresholds, s.measures) for s in specs.values()
        }:
            choose_backend(backend, device).warm_up(device, dtype, thresholds, measures)


def device_of(model: nn.Module) -> torch.device | None:
    """Return where a model is; None if it has no parameters and buffers, and so is nowhere."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return None


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

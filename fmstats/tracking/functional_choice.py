"""`FunctionalChoice` tells which operations of a model are layers, and what is measured of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn as nn

from fmstats.models.channel_dims import ChannelRule
from fmstats.models.experts import global_name
from fmstats.models.selection import Selection, has_name, is_leaf, listed
from fmstats.operations.functional import bounds_of_operation
from fmstats.statistic.thresholds import Thresholds
from fmstats.tracking.layer_spec import LayerSpec
from fmstats.tracking.mask_choice import MaskChoice
from fmstats.tracking.options import TrackOptions


class FunctionalChoice:
    """A choice is what the options of a tracker ask of operations.

    Args:
        options: of the tracker.
        experts: the numbers of those that this process holds, see `fmstats.models.experts`.
    """

    def __init__(self, options: TrackOptions, experts: Mapping[str, list[int]]) -> None:
        self._options, self.experts = options, experts
        self._told = MaskChoice(options.mask).selectors

    def is_asked(self, operation: str, module: nn.Module) -> bool:
        """Tell whether operations within a module are layers of their own."""
        if self._options.functional is True or self._options.functional_names is not None:
            return not _is_of_torch(module)
        return not (is_leaf(module) and (_is_of_torch(module) or _is_one_operation(module)))

    def is_selected(self, name: str, operation: str) -> bool:
        """Tell whether the user selects a row of an operation."""
        options = self._options
        asked = options.functional_names
        if asked is not None and not any(p == operation or has_name(p, name) for p in asked):
            return False
        included = options.include is None or _fits(options.include, name)
        return included and not _fits(options.exclude, name)

    def thresholds(
        self, name: str, operation: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Thresholds:
        """Return what counts as zero and as saturated in the results of an operation."""
        bounds = bounds_of_operation(operation, args, kwargs)
        if self._options.of != "output":
            bounds = (None, None)
        for selector, given in (self._options.saturation or {}).items():
            if _fits(selector, name):
                bounds = given
        return Thresholds(self._options.zero_tol, *bounds)

    def spec(
        self, name: str, operation: str, thresholds: Thresholds, left_out: str | None
    ) -> LayerSpec:
        """Return what is measured of the layer `name`; `left_out`: why some of it is not."""
        options = self._options
        return LayerSpec(
            name=name,
            type=operation,
            channels=self._dim(name),
            thresholds=thresholds,
            of=options.of,
            backend=options.backend,
            on_error=options.on_error,
            mask_mismatch=options.mask_mismatch,
            told_mask=self._told_mask(name),
            row=global_name(name, self.experts),
            measures=options.measures,
            left_out=left_out,
        )

    def _told_mask(self, name: str) -> str | None:
        fitting = [mask for mask, selector in self._told.items() if _fits(selector, name)]
        return fitting[-1] if fitting else None

    def _dim(self, name: str) -> ChannelRule | int:
        asked = self._options.channel_dim
        if isinstance(asked, Mapping):
            fitting = [dim for selector, dim in asked.items() if _fits(selector, name)]
            return fitting[-1] if fitting else ChannelRule(1, own=False)
        return asked if isinstance(asked, int) else ChannelRule(1, own=False)


def _is_of_torch(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.") and is_leaf(module)


def _is_one_operation(module: nn.Module) -> bool:
    """Tell whether a module without parts has no weights that mix channels: it is one operation."""
    return all(parameter.dim() < 2 for parameter in module.parameters(recurse=False))


def _fits(selection: Selection, name: str) -> bool:
    """Tell whether the name of an operation is selected; types and functions are of modules."""
    for selector in listed(selection):
        if isinstance(selector, str) and has_name(selector, name):
            return True
        if isinstance(selector, re.Pattern) and selector.search(name):
            return True
    return False

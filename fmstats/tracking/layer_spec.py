"""`LayerSpec` tells what is to be measured at one layer."""

from __future__ import annotations

from dataclasses import dataclass

from fmstats.models.channel_dims import ChannelRule
from fmstats.statistic.measures import ALWAYS, Measures
from fmstats.statistic.thresholds import Thresholds


@dataclass(frozen=True)
class LayerSpec:
    """A spec tells what is to be measured at one layer.

    Attributes:
        type: the module's class name.
        channels: the dim of the channels, or the rule that finds it.
        of: what is measured, "output" or "input".
        backend: a backend's name, or "auto".
        on_error: "raise" or "warn".
        mask_mismatch: "skip", "count" or "raise": what is done with tensors that a mask does not
            fit.
        told_mask: the name of the mask that it is told, None if it has that of the inputs.
        row: what its rows are called in profiles, if it is not its name: see
            `fmstats.models.experts`.
        measures: what is measured beside what always is.
        left_out: why some of its tensors were not measured, if that is known from the start.
    """

    name: str
    type: str
    channels: ChannelRule | int
    thresholds: Thresholds
    of: str
    backend: str
    on_error: str
    mask_mismatch: str = "skip"
    told_mask: str | None = None
    row: str | None = None
    measures: Measures = ALWAYS
    left_out: str | None = None

    @property
    def row_name(self) -> str:
        """Return what its rows are called in profiles."""
        return self.name if self.row is None else self.row

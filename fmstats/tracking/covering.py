"""The coverage of a tracker tells what happened at each layer that was selected."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fmstats.graph_ops import lowering
from fmstats.profiles.coverage import UNMASKED, UNSEEN, Coverage, CoverageRow
from fmstats.tracking.layers import Layer
from fmstats.tracking.per_call import PerCall


def _why_not_fused(layer: Layer | PerCall) -> str | None:
    """Tell why compiled graphs do not measure a layer within their own kernels, if they might."""
    if layer.in_python is not None:
        return f"in compiled graphs measured by Python {layer.in_python}"
    rows = [row for part in layer.layers for row in part.rows]
    there = [device for row in rows for device in row.in_graphs if device.type != "cpu"]
    if there and (why := lowering.why_not_here()) is not None:
        return f"in compiled graphs measured by an operation of its own: {why}"
    numbers = (target.number for row in rows for target in row.in_graphs.values())
    why = next(filter(None, map(lowering.reasons.get, numbers)), None)
    return why and f"in compiled graphs measured by an operation of its own: it {why}"


def cover(
    layers: Mapping[str, Layer | PerCall],
    gone: Collection[str],
    unseen: Mapping[str, tuple[str, str]],
) -> Coverage:
    """Tell which of the selected layers were measured, and why the others were not.

    Args:
        layers: what was measured of each of the selected layers, by name.
        gone: names of those that are no longer in the model.
        unseen: parts whose operations are not followed, with their type and the reason.
    """
    rows = []
    for name, layer in layers.items():
        parts = layer.layers
        counted = [part.count_calls() for part in parts]  # once: it waits for devices
        calls = sum(counted)
        reason = next((part.reason for part in parts if part.reason), None)
        status = "skipped" if reason else "tracked" if calls else "never fired"
        if reason is None:
            reason = layer.why_partial()
            status = "in part" if reason else status
        unmasked = next(filter(None, (part.positions.describe() for part in parts)), None)
        if unmasked is not None:
            status, reason = UNMASKED, unmasked
        if reason is None:
            reason = _why_not_fused(layer)
        if name in gone:
            reason = "no longer in the model, replaced or removed: track() again to see it"
        seen = (part for part, each in zip(parts, counted, strict=True) if each)
        channels = next((part.channels.describe() for part in seen), "")
        rows.append(CoverageRow(name, layer.spec.type, status, reason, calls, channels))
    for name, (kind, why) in unseen.items():
        rows.append(CoverageRow(name, kind, UNSEEN, why, 0))
    return Coverage(rows)

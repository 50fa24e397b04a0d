"""Draw the histogram of each layer as the path of an SVG image, in which an octave is one wide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fmstats.drift import Comparison
from fmstats.profiles.octaves import OctaveAxis, count_octaves
from fmstats.profiles.profile import Profile
from fmstats.statistic.distribution import Array

_HEIGHT = 20  # of the highest bar


def draw_distributions(
    profile: Profile, rows: Sequence[Mapping[str, Any]], comparison: Comparison | None
) -> dict[str, Any] | None:
    """Return what the template needs; None where no layer has a histogram.

    Args:
        profile: whose layers are drawn.
        rows: of its layers, see `Profile.layers`.
        comparison: of it with a baseline, whose histograms are drawn over the others.
    """
    now = count_octaves(profile)
    if not now:
        return None
    before = _count_baseline(comparison)
    axis = OctaveAxis.of([*now.values(), *before.values()])
    least, most = axis.ends
    layers = []
    for row in rows:
        found = [counts[row["layer"]] for counts in (now, before) if row["layer"] in counts]
        if row["layer"] in now:
            layers.append({**row, "paths": _draw(axis, found)})
    return {
        "layers": layers,
        **{"width": 2 * axis.octaves + 3, "height": _HEIGHT},
        **{"least": least, "most": most, "drift": bool(before)},
    }


def _count_baseline(comparison: Comparison | None) -> dict[str, Array]:
    """Count the octaves of those layers of the baseline that were compared."""
    if comparison is None or comparison.baseline is None:
        return {}
    return count_octaves({of.layer: comparison.baseline[of.layer] for of in comparison.layers})


def _draw(axis: OctaveAxis, histograms: Sequence[Array]) -> list[str]:
    """Return the path of each histogram of a layer: the share of its elements in each octave."""
    shares = []
    for counts in histograms:
        below, zeros, above = axis.arrange(counts)
        bars = [*below.tolist(), 0, zeros, 0, *above.tolist()]
        shares.append([bar / max(sum(bars), 1) for bar in bars])
    highest = max(max(bars) for bars in shares) or 1.0
    return [_trace([bar / highest for bar in bars]) for bars in shares]


def _trace(bars: Sequence[float]) -> str:
    """Return a path over bars of heights from 0 to 1, which meet."""
    path, before = [f"M0 {_HEIGHT}"], 0.0
    for place, height in enumerate(bars):
        if height != before:
            path.append(f"H{place}V{round(_HEIGHT * (1 - height), 2):g}")
            before = height
    return "".join([*path, f"H{len(bars)}V{_HEIGHT}"])

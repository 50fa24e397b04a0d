"""Channels and layers that say nothing, or always the same."""

from __future__ import annotations

import numpy as np

from fmstats.diagnosis.limits import Limits
from fmstats.diagnosis.observed import (
    Mask,
    Observed,
    Told,
    Verdict,
    enough,
    enough_whole,
    name_channels,
)

# Types whose outputs have both signs by construction. On a ReLU's "never negative" nobody waits.
TWO_SIDED = frozenset(
    [
        *(f"Conv{d}d" for d in (1, 2, 3)),
        *(f"ConvTranspose{d}d" for d in (1, 2, 3)),
        *(f"BatchNorm{d}d" for d in (1, 2, 3)),
        *(f"InstanceNorm{d}d" for d in (1, 2, 3)),
        *("Linear", "Bilinear", "Embedding", "SyncBatchNorm", "GroupNorm", "LayerNorm", "RMSNorm"),
        *("Tanh", "Softsign", "GELU", "SiLU", "Mish", "Hardswish", "ELU", "CELU"),
        *("SELU", "LeakyReLU", "PReLU", "RReLU", "Hardshrink", "Softshrink", "Tanhshrink"),
    ]
)


def never_active(layer: Observed, limits: Limits) -> Verdict:
    """Channels whose every finite element was exactly 0."""
    judged = enough(layer, limits)

    def tell(where: Mask) -> Told:
        least = int(layer.stats.finite_count[where].min())
        message = f"{name_channels(where)}: exactly 0 in each of {least:,} finite elements"
        return Told(message, {"finite_elements": least})

    return Verdict(judged, judged & layer.stats.never_active, tell)


def dead(layer: Observed, limits: Limits) -> Verdict:
    """Channels that are 0 in nearly all of their elements, those that are never active included."""
    judged, sparsity, limit = enough(layer, limits), layer.stats.sparsity, limits["dead"]
    hit = np.zeros_like(judged)
    hit[judged] = sparsity[judged] > limit

    def tell(where: Mask) -> Told:
        message = f"{name_channels(where)}: 0 in more than {100 * limit:g} % of the elements"
        return Told(message, {"sparsity": float(sparsity[where].min())})

    return Verdict(judged, hit, tell)


def constant(layer: Observed, limits: Limits) -> Verdict:
    """Channels that always have the same value, other than 0."""
    stats, judged = layer.stats, enough(layer, limits)
    low, high, largest = stats.min, stats.max, stats.abs_max
    hit = np.zeros_like(judged)
    some = judged & ~stats.never_active
    hit[some] = high[some] - low[some] <= limits["constant"] * largest[some]

    def tell(where: Mask) -> Told:
        least = int(stats.finite_count[where].min())
        smallest, greatest = float(low[where].min()), float(high[where].max())
        message = (
            f"{name_channels(where)}: the same value in each of {least:,} finite elements, "
            + (
                f"between {smallest:.4g} and {greatest:.4g}"
                if where.sum() > 1
                else f"{smallest:.4g}"
            )
        )
        return Told(message, {"finite_elements": least, "min": smallest, "max": greatest})

    return Verdict(judged, hit, tell)


def sparse(layer: Observed, limits: Limits) -> Verdict:
    """Layers that are 0 in nearly all of their elements."""
    judged, share = enough_whole(layer, limits), layer.whole.sparsity
    hit = np.zeros_like(judged)
    hit[judged] = share[judged] > limits["sparse"]

    def tell(where: Mask) -> Told:
        count, zeros = int(layer.whole.count[0]), int(layer.whole.zeros[0])
        numbers = {"sparsity": float(share[0]), "zeros": zeros}
        if zeros == count:
            return Told(f"each of its {count:,} elements is 0", numbers, "error")
        return Told(f"{100 * share[0]:.2f} % of its {count:,} elements are 0", numbers)

    return Verdict(judged, hit, tell)


def one_sided(layer: Observed, limits: Limits) -> Verdict | None:
    """Channels that are never below, or never above 0 in a layer whose type can give both."""
    if layer.of != "output" or layer.type not in TWO_SIDED:
        return None
    stats, judged = layer.stats, enough(layer, limits)
    positive, negative = np.zeros_like(judged), np.zeros_like(judged)
    positive[judged], negative[judged] = stats.min[judged] >= 0, stats.max[judged] <= 0

    def tell(where: Mask) -> Told:
        above, below = int((where & positive).sum()), int((where & negative).sum())
        sides = ((above, "never below 0"), (below, "never above 0"))
        message = f"{name_channels(where)}: " + ", ".join(f"{n} {side}" for n, side in sides if n)
        return Told(message, {"never_below": above, "never_above": below})

    return Verdict(judged, positive | negative, tell)

"""Find channels and layers that are 0, or always have the same value."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from fmstats.diagnosis.observed import (
    FindingText,
    Mask,
    Observed,
    Verdict,
    enough,
    enough_whole,
    is_constant,
    name_channels,
)
from fmstats.diagnosis.thresholds import RuleThresholds

# Types that look rows of a table up.
TABLES = frozenset(["Embedding", "EmbeddingBag"])

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


def never_active(layer: Observed, thresholds: RuleThresholds) -> Verdict:
    """Find channels whose every finite element was exactly 0."""
    judged = enough(layer, thresholds)

    def describe(where: Mask) -> FindingText:
        least = int(layer.stats.finite_count[where].min())
        message = f"{name_channels(where)}: exactly 0 in each of {least:,} finite elements"
        return FindingText(message, {"finite_elements": least})

    return Verdict(judged, judged & layer.stats.never_active, describe)


def dead(layer: Observed, thresholds: RuleThresholds) -> Verdict:
    """Find channels that are 0 in nearly all of their elements; this includes never active ones."""
    stats, limit = layer.stats, thresholds["dead"]
    seen = enough(layer, thresholds)
    judged = seen & (stats.finite_count - layer.blank >= thresholds["elements"])
    sparsity = (stats.zeros - layer.blank) / np.maximum(stats.count - layer.blank, 1)
    hit = judged & (sparsity > limit)

    def describe(where: Mask) -> FindingText:
        message = f"{name_channels(where)}: 0 in more than {100 * limit:g} % of the elements"
        if layer.blank:
            message += _describe_blank(layer)
        return FindingText(message, {"sparsity": float(sparsity[where].min())})

    return Verdict(judged, hit, describe, _lack_filled(layer) if (seen & ~judged).any() else None)


def constant(layers: Sequence[Observed], thresholds: RuleThresholds) -> list[Verdict | None]:
    """Find channels that always have the same value, other than 0.

    A table all of whose channels are constant was asked for one row alone: that depends on the
    data, and so do layers right behind it that never vary either.
    """
    verdicts: list[Verdict | None] = []
    asked: tuple[str, str | None] | None = None  # the first of a run of layers that never vary
    for layer in layers:
        judged = enough(layer, thresholds)
        hit = judged & is_constant(layer, thresholds)
        still = bool(hit.any() and (hit | judged & layer.stats.never_active).all())
        follows, severity = asked or (None, "info" if layer.type in TABLES else None)
        if not still:
            follows, severity = None, None
        describe = partial(_describe_constant, layer, severity=severity, follows=follows)
        verdicts.append(Verdict(judged, hit, describe))
        asked = (follows or layer.name, severity) if still else None
    return verdicts


def _describe_constant(
    layer: Observed, where: Mask, *, severity: str | None, follows: str | None
) -> FindingText:
    stats = layer.stats
    least = int(stats.finite_count[where].min())
    smallest, greatest = float(stats.min[where].min()), float(stats.max[where].max())
    message = f"{name_channels(where)}: the same value in each of {least:,} finite elements, " + (
        f"between {smallest:.4g} and {greatest:.4g}" if where.sum() > 1 else f"{smallest:.4g}"
    )
    if severity == "info":
        message += "; one row of the table was asked for"
    numbers = {"finite_elements": least, "min": smallest, "max": greatest}
    return FindingText(message, numbers, severity, follows)


def sparse(layer: Observed, thresholds: RuleThresholds) -> Verdict:
    """Find layers that are 0 in nearly all of their elements, not counting blank positions."""
    empty = layer.blank * layer.stats.channels
    count, zeros = int(layer.whole.count[0]) - empty, int(layer.whole.zeros[0]) - empty
    seen = enough_whole(layer, thresholds)
    judged = seen & (layer.whole.finite_count - empty >= thresholds["elements"])
    share = zeros / max(count, 1)

    def describe(where: Mask) -> FindingText:
        numbers = {"sparsity": share, "zeros": zeros}
        if zeros == count:
            return FindingText(f"each of its {count:,} elements is 0", numbers, "error")
        message = f"{100 * share:.2f} % of its {count:,} elements are 0"
        return FindingText(message + (_describe_blank(layer) if layer.blank else ""), numbers)

    lacks = _lack_filled(layer) if seen[0] and not judged[0] else None
    return Verdict(judged, judged & (share > thresholds["sparse"]), describe, lacks)


def _describe_blank(layer: Observed) -> str:
    return f", without {layer.blank:,} positions where every channel is 0"


def _lack_filled(layer: Observed) -> str:
    return f"0 in every channel at {layer.blank:,} of {int(layer.stats.count.min()):,} positions"


def one_sided(layer: Observed, thresholds: RuleThresholds) -> Verdict | None:
    """Find channels that never go below, or above, 0 in a layer whose type can give both."""
    if layer.of != "output" or layer.type not in TWO_SIDED:
        return None
    stats, judged = layer.stats, enough(layer, thresholds)
    positive, negative = np.zeros_like(judged), np.zeros_like(judged)
    positive[judged], negative[judged] = stats.min[judged] >= 0, stats.max[judged] <= 0

    def describe(where: Mask) -> FindingText:
        above, below = int((where & positive).sum()), int((where & negative).sum())
        sides = ((above, "never below 0"), (below, "never above 0"))
        message = f"{name_channels(where)}: " + ", ".join(f"{n} {side}" for n, side in sides if n)
        return FindingText(message, {"never_below": above, "never_above": below})

    return Verdict(judged, positive | negative, describe)

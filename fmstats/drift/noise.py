"""Score the changes of a layer; by chance alone the score is about 1.

Pixels of one image are alike, so chance depends on the number of samples, not of elements: effects
of n samples have the covariance S / n, where S is that of one sample. Chance also moves channels
together: brighter images move most of them at once. Shards of the baseline show both, how far and
in which directions. The squared distance of a change d is

    d' (S + s I)^-1 d    with s = SHRINKAGE * trace(S) / C,

which counts steps in directions that the shards take less than steps in others. With each shard
left out of S in turn, that shard's own distance from the others is what chance gives, and the
distance of the change by the same S is put in relation to it.
"""

from __future__ import annotations

import math

import numpy as np

from fmstats.statistic.distribution import Array

# Effects of one photograph, root mean square over channels, median over layers of MobileNetV2:
# see docs/drift.md. What is assumed where there are no shards.
TYPICAL = {"shift": 0.42, "spread": 0.85, "sparsity": 0.16}
# Less than this much in one sample is as good as nothing: such effects of a layer are left out.
NEGLIGIBLE = 1e-3
SHRINKAGE = 0.1
# Nothing is a hundred times as surprising as that.
LARGEST = 100.0


def assume_level(effect: str, change: Array, share: float) -> float:
    """Change over what photographs would give, root mean square of the channels.

    Args:
        effect: of which kind.
        change: (C,), finite.
        share: 1 / samples now + 1 / samples of the baseline.
    """
    return min(LARGEST, _rms(change) / (TYPICAL[effect] * math.sqrt(share)))


def surprise(change: Array, shards: Array, samples: Array, share: float) -> float:
    """Divide the distance of a change by that of a shard from the others (root mean squares).

    Args:
        change: effects between the profiles, (C,), finite.
        shards: effects of three or more parts of the baseline against a common one, (K, C).
        samples: in each part, (K,).
        share: 1 / samples now + 1 / samples of the baseline.

    Returns:
        0 to `LARGEST`; NaN where neither the shards nor the profiles differ to speak of.
    """
    rows = np.concatenate([shards, change[None]])
    # All that follows needs no more than the products of rows with each other.
    products = rows @ rows.T
    others, steps = _leave_one_out(samples)
    level = float(_distances(products, others, steps, change.size).mean())
    if not level > 0:
        moved = _rms(change) / math.sqrt(share) > NEGLIGIBLE
        return LARGEST if moved else float("nan")
    # By the same matrices as the level: one from all shards knows a direction more.
    step = np.zeros_like(steps)
    step[:, -1] = 1 / math.sqrt(share)
    squared = float(_distances(products, others, step, change.size).mean())
    return min(LARGEST, math.sqrt(squared / level))


def _leave_one_out(samples: Array) -> tuple[Array, Array]:
    """Return, for each shard, the deviations of the others and its distance, as weights.

    Returns:
        (K, K - 1, K + 1) and (K, K + 1): of the K shards and the change, for one sample.
    """
    count = len(samples)
    deviations, steps = [], np.zeros((count, count + 1))
    for k in range(count):
        others = np.arange(count) != k
        deviations.append(_deviations(samples, others))
        rest = samples[others].sum()
        steps[k, :-1] = np.where(others, -samples / rest, 1.0)
        steps[k] /= (1 / samples[k] + 1 / rest) ** 0.5
    return np.stack(deviations), steps


def _deviations(samples: Array, chosen: Array) -> Array:
    """Return the chosen shards minus their mean, scaled so that their products sum to S."""
    shares = np.where(chosen, samples / samples[chosen].sum(), 0.0)
    apart = np.eye(len(samples))[chosen] - shares
    scaled = apart * np.sqrt(samples[chosen] / (chosen.sum() - 1))[:, None]
    return np.pad(scaled, ((0, 0), (0, 1)))


def _distances(products: Array, deviations: Array, steps: Array, channels: int) -> Array:
    """Return squared distances (B,) of steps (B, K + 1), by their deviations (B, k, K + 1).

    0 where the deviations are negligible.
    """
    spread = deviations @ products
    gram = spread @ deviations.transpose(0, 2, 1)
    variance = np.trace(gram, axis1=1, axis2=2) / channels
    along = (spread @ steps[:, :, None])[:, :, 0]
    squares = np.einsum("bi,ij,bj->b", steps, products, steps)
    varied = variance > NEGLIGIBLE**2
    gram, along, ridge = gram[varied], along[varied], SHRINKAGE * variance[varied]
    known = np.linalg.solve(gram + ridge[:, None, None] * np.eye(gram.shape[1]), along[:, :, None])
    off = squares[varied] - (along * known[:, :, 0]).sum(1)
    distances = np.zeros(len(varied))
    # Rounding can leave a little less than nothing.
    distances[varied] = np.maximum(off, 0.0) / ridge
    return distances


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))

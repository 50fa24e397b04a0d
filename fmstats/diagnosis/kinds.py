"""Derive from the type and the bounds of a layer what its output should be like."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmstats.diagnosis.observed import Observed

Levels = NDArray[np.float64]  # natural logarithms of a scale, in the order of execution

# Activations that give exact zeros, though their numbers do not end there.
_WITH_ZEROS = frozenset(["Hardswish", "hardswish", "Hardshrink", "Softshrink", "Hardtanh"])
_PASSING_ON = frozenset(["Identity", "AlphaDropout", "FeatureAlphaDropout", "DropPath"])


def normalises(layer: Observed) -> bool:
    """Return whether a layer normalises its output to a scale of about 1."""
    return layer.of == "output" and "Norm" in layer.type


def keeps_its_scale(layer: Observed) -> bool:
    """Return whether the scale of the output is independent of the scale of the input."""
    bounds = layer.stats.thresholds
    bounded = bounds.low is not None and bounds.high is not None
    return bounded or (normalises(layer) and "Batch" not in layer.type)


def weighs(layer: Observed) -> bool:
    """Return whether a layer is a weighted sum, whose initialisation preserves the variance."""
    return layer.of == "output" and ("Linear" in layer.type or "Conv" in layer.type)


def is_gate(layer: Observed) -> bool:
    """Return whether the output is between bounds within 0 and 1, as of gates and shares."""
    low, high = layer.stats.thresholds.low, layer.stats.thresholds.high
    return low is not None and high is not None and 0 <= low < high <= 1


def gives_zeros(layer: Observed) -> bool:
    """Return whether zeros are a state of the layer, as behind a ReLU, and no accident.

    Its numbers end at 0, which those of sums, norms and logits do not, whatever its type is called.
    """
    low, high = layer.whole.min[0], layer.whole.max[0]
    return bool(low == 0 or high == 0) or layer.type in _WITH_ZEROS


def passes_on(layer: Observed) -> bool:
    """Return whether a layer gives what it receives: it tells nothing that another has not told."""
    named = layer.type in _PASSING_ON or layer.type.startswith("Dropout")
    return layer.of == "output" and named

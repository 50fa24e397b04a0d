"""What the type of a layer says of the scale of its output."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmstats.diagnosis.observed import Observed

Levels = NDArray[np.float64]  # natural logarithms of a scale, in the order of execution


def normalises(layer: Observed) -> bool:
    """Whether a layer is made to give numbers of the order of 1."""
    return layer.of == "output" and "Norm" in layer.type


def keeps_its_scale(layer: Observed) -> bool:
    """Whether the scale of what goes in does not decide that of what comes out."""
    bounds = layer.stats.thresholds
    bounded = bounds.low is not None and bounds.high is not None
    return bounded or (normalises(layer) and "Batch" not in layer.type)


def weighs(layer: Observed) -> bool:
    """Whether a layer is a weighted sum, which initialisations make keep the variance."""
    return layer.of == "output" and ("Linear" in layer.type or "Conv" in layer.type)

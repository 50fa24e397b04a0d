"""Make scales and zero points for codes of 8 bits of what a profile knows."""

from __future__ import annotations

from fmstats.calibration.calibrate import calibrate
from fmstats.calibration.layer import LayerQParams
from fmstats.calibration.methods import METHODS
from fmstats.calibration.qparams import QParams
from fmstats.calibration.schemes import SCHEMES

__all__ = ["METHODS", "SCHEMES", "LayerQParams", "QParams", "calibrate"]

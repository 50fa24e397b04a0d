"""Measure the parameters of a model in training: weights, gradients, and what each step changes."""

from __future__ import annotations

from fmstats.parameters.tracker import ParameterTracker, track_parameters

__all__ = ["ParameterTracker", "track_parameters"]

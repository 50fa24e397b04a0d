"""Analyze the geometry and cost of a model.

From a trace of one forward pass (`trace`, `recorder`, with the rules of `formulas` and `fields`)
come the rows of a table (`rows`), its stages (`stages`) and what is printed (`result`, `text`).
"""

from __future__ import annotations

from fmstats.analysis.analyze import analyze
from fmstats.analysis.result import Analysis, Uncounted
from fmstats.analysis.rows import LayerRow
from fmstats.analysis.stages import Stage, Stages

__all__ = ["Analysis", "LayerRow", "Stage", "Stages", "Uncounted", "analyze"]

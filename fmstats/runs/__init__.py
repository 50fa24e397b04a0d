"""Run a model over data once and return the profile of its feature maps.

The caller's model comes back as it was: its training flags, device, dtype and memory format are
those of before, and no hook is left, however the run ends.
"""

from __future__ import annotations

from fmstats.runs.profiling import profile
from fmstats.runs.reading import open_batches
from fmstats.runs.stopping import RunInterrupted

__all__ = ["RunInterrupted", "open_batches", "profile"]

"""Keep profiles by the step of training at which they were taken."""

from __future__ import annotations

from fmstats.histories.history import History, is_history

__all__ = ["History", "is_history"]

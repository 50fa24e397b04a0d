"""Open models and data, each named by a short text.

Importing this package imports no optional package; each form asks for its own when it is opened.
"""

from __future__ import annotations

from fmstats.sources.data import DataSource, open_data
from fmstats.sources.models import load_model
from fmstats.sources.weights import load_weights

__all__ = ["DataSource", "load_model", "load_weights", "open_data"]

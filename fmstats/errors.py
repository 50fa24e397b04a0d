"""The one exception that fmstats raises on purpose.

Every message names the state found, what was asked for, and the choices left.
"""

from __future__ import annotations


class FmstatsError(ValueError):
    """A request that fmstats cannot serve: bad input, a missing backend, a model it cannot read."""

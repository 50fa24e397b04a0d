"""The one error of the interpreter."""

from __future__ import annotations


class PtxError(Exception):
    """What a kernel did that is not allowed, or what the interpreter does not know, and where."""

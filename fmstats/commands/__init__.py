"""Define the commands, one module each, with their options and help texts.

Only `fmstats.cli` imports this package, since it needs typer.
"""

from __future__ import annotations

# In the order in which the help lists them.
from fmstats.commands import (  # isort: skip
    demo,
    profile,
    show,
    rank,
    diagnose,
    compare,
    report,
    check,
    merge,
    export,
    calibrate,
    analyze,
    visualize,
    backends,
)
from fmstats.commands.app import app

__all__ = [
    "analyze",
    "app",
    "backends",
    "calibrate",
    "check",
    "compare",
    "demo",
    "diagnose",
    "export",
    "merge",
    "profile",
    "rank",
    "report",
    "show",
    "visualize",
]

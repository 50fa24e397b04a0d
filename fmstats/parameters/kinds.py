"""`KINDS` are what is measured of a parameter, each in a row of its own."""

from __future__ import annotations

from collections.abc import Collection

import torch

from fmstats.errors import FmstatsError
from fmstats.profiles.updates import FROZEN

KINDS = ("weight", "gradient", "update")


def check_kinds(
    of: str | Collection[str], optimizer: torch.optim.Optimizer | None
) -> frozenset[str]:
    """Return what is to be measured: all that can be, or what was named.

    Raises:
        FmstatsError: none, an unknown one, or updates by name without an optimizer.
    """
    named = (of,) if isinstance(of, str) else tuple(of)
    unknown = [kind for kind in named if kind not in KINDS]
    if unknown or not named:
        raise FmstatsError(f"of={of!r}: choose some of {', '.join(KINDS)}")
    if optimizer is None and named != KINDS and "update" in named:
        raise FmstatsError("of='update' needs an optimizer: its steps are what changes parameters")
    return frozenset(named) - ({"update"} if optimizer is None else set())


def name_kind(kind: str, frozen: bool) -> str:
    """Return the type of the rows of a kind."""
    name = "parameter" if kind == "weight" else kind
    return FROZEN + name if frozen else name

"""This module gives kernels that measure one tile each, which is not tuned.

Inductor would give a thread 4 to 8 elements at a time: with the lanes of three layers that is more
than its registers hold. A tile that divides the loop also needs no masks, which are a few
instructions an element and layer. Imported only with Inductor.
"""

from __future__ import annotations

import copy
import math
import types
from typing import Any

import sympy
from torch._inductor.codegen.triton import FixedTritonConfig
from torch._inductor.virtualized import V

from fmstats.graph_ops.reduction import PartialsReduction

WARPS = 8
TILE = 512  # elements of a block: two a thread


def choose_tiles() -> None:
    """Have `Tiles` choose for the graphs that this thread compiles."""
    choices = V.choices
    if not isinstance(choices, Tiles):
        ours = copy.copy(choices)
        ours.__class__ = type("TilesOf" + type(choices).__name__, (Tiles, type(choices)), {})
        V.set_choices_handler(ours)


class Tiles:
    """Tiles are choices of Inductor's in which kernels that measure have a tile of their own."""

    def triton_kernel_kwargs(
        self, kernel_cls: Any, features: Any, groups: list[Any], kernel_kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Add the tile to what Inductor makes a kernel with."""
        kwargs: dict[str, Any] = super().triton_kernel_kwargs(  # type: ignore[misc]
            kernel_cls, features, groups, kernel_kwargs
        )
        made = [getattr(node.node, "data", None) for node in features.scheduler_nodes()]
        ours = [data for data in made if isinstance(data, PartialsReduction)]
        if not ours:
            return kwargs
        kwargs["override_cooperative_reduction"] = False  # `in_triton` knows none
        if set(groups[0]) != {"x", "r0_"}:  # no tile of three dims
            return kwargs
        features.memory_stats = lambda groups=None: _NOTHING_TO_SAVE
        rows, length = (int(numel) for numel in (features.numel, features.reduction_numel))
        tile = tile_of(rows, length, all(data.channels_last for data in ours))
        return {
            **kwargs,
            "fixed_config": FixedTritonConfig(tile),
            "override_persistent_reduction": False,
        }


# What Inductor finds out to choose further tiles to try: as much work as making the kernel.
_NOTHING_TO_SAVE = types.SimpleNamespace(
    persistent=types.SimpleNamespace(
        memory=types.SimpleNamespace(
            bytes=sympy.S.One, dim=[types.SimpleNamespace(count_per_thread=0)]
        )
    ),
    looped=types.SimpleNamespace(memory=types.SimpleNamespace(bytes=sympy.S.One)),
)


def tile_of(rows: int, length: int, channels_last: bool) -> dict[str, int]:
    """Return the tile of a kernel that reduces `rows` of some length each.

    Args:
        rows: planes times channels.
        length: positions of a plane.
        channels_last: whether neighbours in memory are of different rows.
    """
    if channels_last:
        r = math.gcd(length, 8)
        r = r if r >= 4 else 8  # masked
    else:
        r = math.gcd(length, TILE)
        r = r if r >= 64 else min(TILE // 2, 1 << (length - 1).bit_length())  # masked
    x = TILE // r
    while x > 1 and x >= 2 * rows:
        x //= 2
    return {"XBLOCK": x, "R0_BLOCK": r, "num_warps": WARPS, "num_stages": 1}

"""Cut the layers of a large model into blocks, which the page folds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

_FEW_LAYERS = 40  # are shown one by one
_MOST_BLOCKS = 30


def cut_blocks(names: Sequence[str]) -> list[tuple[str, int]]:
    """Return the blocks of layers, one after the other: their names, and how many layers each has.

    A block is a run of layers whose names begin alike, with as many parts as leave at most
    `_MOST_BLOCKS` blocks. There are none of few layers, or where names show none.
    """
    if len(names) < _FEW_LAYERS:
        return []
    paths = [name.partition("/")[0].split(".") for name in names]
    best: list[tuple[str, int]] = []
    for depth in range(1, max(map(len, paths)) + 1):
        starts = (".".join(path[:depth]) for path in paths)
        blocks = [(start, len(list(run))) for start, run in itertools.groupby(starts)]
        if len(blocks) > _MOST_BLOCKS:
            break
        best = blocks
    return best if len(best) > 1 else []

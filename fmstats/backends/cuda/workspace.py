"""Blocks of a launch hand each other parts of a tensor in memory that all layers share.

Launches of one stream follow one another, so they need one workspace, and those of a captured graph
have one of their own for each stream of the capture, as replays may run beside anything else. What
was handed out is never taken back: a layer's plan or a graph may still write to it. A larger one is
at least twice as large, so that all of them together stay below four times what a launch needs.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Workspaces:
    """These workspaces hold the memory of one GPU, by stream and capture.

    Args:
        where: the device.
    """

    def __init__(self, where: torch.device) -> None:
        self._where = where
        # By stream and capture; the last one is in use.
        self._made: dict[tuple[int, int | None], list[tuple[Tensor, Tensor]]] = {}

    def room_for(
        self, stream: int, capture: int | None, parts_words: int, tickets: int
    ) -> tuple[Tensor, Tensor]:
        """Return (parts, tickets) for a launch: any int64, and int32 that are 0 between launches.

        Made within a capture they are of its graph: the tickets' zeros are set by each replay.
        """
        made = self._made.setdefault((stream, capture), [])
        if not made or made[-1][0].numel() < parts_words or made[-1][1].numel() < tickets:
            had = [tensor.numel() for tensor in made[-1]] if made else [0, 0]
            made.append(self._allocate(max(parts_words, 2 * had[0]), max(tickets, 2 * had[1])))
        return made[-1]

    def _allocate(self, parts_words: int, tickets: int) -> tuple[Tensor, Tensor]:
        # Made in inference mode, they could not be changed outside it.
        with torch.inference_mode(False), torch.no_grad():
            parts = torch.empty(parts_words, dtype=torch.int64, device=self._where)
            return parts, torch.zeros(tickets, dtype=torch.int32, device=self._where)

"""`InGraphs` is what a row asks of whatever measures it in graphs."""

from __future__ import annotations

from typing import Protocol


class InGraphs(Protocol):
    """What measures a row in graphs."""

    number: int

    def take_calls(self) -> int:
        """Return how many tensors went past the hook since this was asked last."""

    def close(self) -> None:
        """Measure no more, whatever graphs go on calling."""

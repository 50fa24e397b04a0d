"""Count the samples of a run, and never guess them.

The dim that the caller names or the source of the batches knows comes first; then hints
from layers whose type determines their batch dim; then the size that all entries of a batch share.
Where none of these is known, the number is unknown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

from fmstats.errors import FmstatsError
from fmstats.sources.batch_dim_hints import Place, collect_hints, find_place
from fmstats.sources.batches import ModelInput


class Counting:
    """Counts the samples of batches.

    Args:
        model: its layers are asked in the first batch that it takes; None: nobody is.
        limit: of samples, as it was applied from the batches alone.
    """

    def __init__(self, model: nn.Module | None, limit: int | None) -> None:
        self._model, self._limit = model, limit
        self._place: Place | None = None

    @contextlib.contextmanager
    def ask_layers(self, inputs: ModelInput) -> Iterator[None]:
        """Collect hints from the layers while the model runs on its first batch."""
        if self._model is None or inputs.batch_dim is not None:
            yield
            return
        with collect_hints(self._model) as hints:
            yield
        self._model, self._place = None, find_place(inputs, hints)

    def count(self, inputs: ModelInput) -> int | None:
        """Return the number of samples of a batch; None where it is unknown."""
        count = None
        if self._place is not None and inputs.batch_dim is None:
            count = self._place.count(inputs)
        return inputs.samples if count is None else count

    def check_limit(self, inputs: ModelInput) -> None:
        """Refuse a batch of which the limit has counted other samples than there are.

        Raises:
            FmstatsError: the layers say otherwise than the entries of the batch.
        """
        if self._limit is not None and self.count(inputs) != inputs.samples:
            dim = None if self._place is None else self._place.dim
            so = "take it as one sample" if dim is None else f"have the samples along dim {dim}"
            way = "leave limit= out" if dim is None else f"give batch_dim={dim} (--batch-dim {dim})"
            raise FmstatsError(
                f"limit= cannot count the samples of a batch: its entries, {inputs.describe()}, "
                f"have size {inputs.samples} along dim 0, but the layers that take them {so}: {way}"
            )


def add_samples(*counts: int | None) -> int | None:
    """Return the sum of numbers of samples; None if any of them is unknown."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None

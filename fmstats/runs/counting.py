"""How many samples a run has folded, never guessed.

The dim that the caller names or the source of the batches knows comes first; then what the layers
tell that have the batch in a place of their own; then the size that all entries of a batch share.
Where none of these tells, the number is unknown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

from fmstats.errors import FmstatsError
from fmstats.sources.batches import ModelInput
from fmstats.sources.witnesses import Place, find_place, hear_layers


class Counting:
    """Counts the samples of batches.

    Args:
        model: its layers are asked in the first batch that it takes; None: nobody is.
        limit: of samples, which has been kept by what the batches alone tell.
    """

    def __init__(self, model: nn.Module | None, limit: int | None) -> None:
        self._model, self._limit = model, limit
        self._place: Place | None = None

    @contextlib.contextmanager
    def hear(self, inputs: ModelInput) -> Iterator[None]:
        """Ask the layers, while the model runs on its first batch."""
        if self._model is None or inputs.batch_dim is not None:
            yield
            return
        with hear_layers(self._model) as heard:
            yield
        self._model, self._place = None, find_place(inputs, heard)

    def count(self, inputs: ModelInput) -> int | None:
        """The samples of a batch; None: unknown."""
        told = None
        if self._place is not None and inputs.batch_dim is None:
            told = self._place.count(inputs)
        return inputs.samples if told is None else told

    def check_limit(self, inputs: ModelInput) -> None:
        """Refuse a batch of which the limit has counted other samples than there are.

        Raises:
            FmstatsError: the layers say otherwise than the entries of the batch.
        """
        if self._limit is not None and self.count(inputs) != inputs.samples:
            dim = None if self._place is None else self._place.dim
            where = "it is one sample" if dim is None else f"they run along dim {dim}"
            way = "leave limit= out" if dim is None else f"give batch_dim={dim} (--batch-dim {dim})"
            raise FmstatsError(
                f"limit= counts samples: the entries of a batch, {inputs.describe()}, share "
                f"{inputs.samples} along dim 0, but by the layers that take them {where}: {way}"
            )


def add_samples(*counts: int | None) -> int | None:
    """The sum of some numbers of samples; None if any of them is unknown."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None

"""`ChannelFinder` chooses and remembers the dim of a layer's tensors that is read as channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fmstats.models.channel_dims import ChannelRule
from fmstats.operations.channel_flow import Origin
from fmstats.operations.labels import one_dim
from fmstats.statistic.view import resolve_dim

_GUESS = "a guess, by what is registered before it"
_MOST_SHAPES = 256  # that are remembered of a layer

Dims = dict[int, "int | None"]


class ChannelFinder:
    """A finder answers for the tensors of one layer.

    It takes the dim that the user asked for; else the one that the type of the layer names; else
    the one to which the channels went in a pass that was watched. A tensor of a pass that was not
    has its channels where one of its shape, or else of its number of dims, had them. If there was
    none, the rule guesses by the layers that are registered before.

    Attributes:
        dims: the dim of the channels by the number of dims; None where all is one channel.
        mixed: whether tensors of one number of dims had them in several.
        guessed: whether the last answer was a guess.
    """

    def __init__(self, asked: ChannelRule | int) -> None:
        self._asked = asked
        self.dims: Dims = {}
        self.mixed = self.guessed = False
        self._by_shape: dict[tuple[int, ...], int | None] = {}
        self._reasons: dict[int, str] = {}

    def find(self, shape: Sequence[int], origin: Origin | None) -> int | None:
        """Return the dim of a tensor of this shape; None where all of it is one channel.

        Args:
            shape: of at least one dim.
            origin: where its channels come from, if the pass is watched and they are known.

        Raises:
            FmstatsError: the user asked for a dim that it lacks.
        """
        asked, count = self._asked, len(shape)
        self.guessed = False
        if isinstance(asked, int):
            return self._note(shape, resolve_dim(asked, shape), "as asked")
        if asked.own and asked.fits(shape):
            return self._note(shape, asked.resolve(shape), "by its type")
        if origin is not None:
            return self._note(shape, one_dim(origin.label), _describe(origin))
        known = self._by_shape.get(tuple(shape[1:]), self.dims.get(count, -1))
        if known is None or known >= 0:
            return known
        self.guessed = True
        dim = self.dims[count] = asked.resolve(shape)
        self._reasons[count] = _GUESS
        return dim

    def expect(self, count: int, origin: Origin) -> None:
        """Take the channels of tensors of so many dims to be where they come from, if need be."""
        asked = self._asked
        if count and not isinstance(asked, int) and not asked.own and count not in self.dims:
            self.dims[count] = one_dim(origin.label)
            self._reasons[count] = _describe(origin)

    def _note(self, shape: Sequence[int], dim: int | None, how: str) -> int | None:
        if len(self._by_shape) < _MOST_SHAPES:
            self._by_shape[tuple(shape[1:])] = dim
        count = len(shape)
        if self._reasons.get(count) != _GUESS:
            self.mixed = self.mixed or self.dims.get(count, dim) != dim
        self.dims[count], self._reasons[count] = dim, how
        return dim

    def describe(self) -> str:
        """Tell which dims were taken and why, as `dim 1 by its type`."""
        parts = []
        for count, dim in sorted(self.dims.items()):
            which = "one channel" if dim is None else f"dim {dim}"
            of = f" of {count}" if len(self.dims) > 1 else ""
            parts.append(f"{which}{of} {self._reasons.get(count, 'as restored')}")
        return "; ".join(parts)

    def restore(self, dims: Mapping[int, int | None]) -> None:
        """Take the dims that another run has found."""
        self.dims |= dims

    def forget(self) -> None:
        """Forget what was guessed or restored; what operations and types tell, stays."""
        known = {count for count, why in self._reasons.items() if why != _GUESS}
        self.dims = {count: dim for count, dim in self.dims.items() if count in known}


def _describe(origin: Origin) -> str:
    assumed = ", assumed across an operation without a rule" if origin.assumed else ""
    return f"from {origin.layer!r}{assumed}"

"""`Call` is a call of an operation, as the rules see it that carry channels on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from fmstats.operations.labels import Label


@dataclass(frozen=True)
class Call:
    """A call of an operation.

    Attributes:
        name: of the operation, without the underscore of what works in place.
        args, kwargs: as given.
        label_of: tells the label of a tensor, None if it has none.
        place: of the tensor that the rule is asked for, among those that were returned.
    """

    name: str
    args: Sequence[Any]
    kwargs: dict[str, Any]
    label_of: Callable[[Tensor], Label | None]
    place: int = 0

    def of(self, place: int) -> Call:
        """Return the call as the rule of another returned tensor sees it."""
        return self if place == self.place else replace(self, place=place)

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """Return an argument, given by its place or by its name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    def sizes(self, place: int, *names: str) -> list[Any]:
        """Return several numbers, given one by one or as a tuple."""
        rest = self.args[place:]
        if not rest:
            rest = next(([self.kwargs[name]] for name in names if name in self.kwargs), [])
        if len(rest) == 1 and isinstance(rest[0], Sequence):
            return list(rest[0])
        return list(rest)

    @property
    def tensors(self) -> list[Tensor]:
        """Return the tensors among the arguments, and those of lists among them."""
        return list(_tensors_of((*self.args, *self.kwargs.values())))

    @property
    def first(self) -> Tensor:
        """Return the first tensor."""
        return self.tensors[0]

    def label(self, x: object) -> Label | None:
        """Return the label of a tensor, None of anything else."""
        return self.label_of(x) if isinstance(x, Tensor) else None


def _tensors_of(values: Sequence[Any], depth: int = 0) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)) and depth < 2:
            yield from _tensors_of(value, depth + 1)


# It returns the label of a tensor that was returned, or None if nothing is known.
Rule = Callable[[Call, Tensor], Label | None]

"""What functions keep that a model calls by name is left as it was, however far from the model."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fmstats

X = torch.rand(2, 3)
Seen = list[Tensor]


def by_default(x: Tensor, seen: Seen = []) -> None:  # noqa: B006
    seen.append(x)


def by_keyword(x: Tensor, *, seen: Seen = []) -> None:  # noqa: B006
    seen.append(x)


def closing_over(seen: Seen) -> Callable[[Tensor], None]:
    def function(x: Tensor) -> None:
        seen.append(x)

    return function


def decorated(function: Callable[[Tensor], None]) -> Callable[[Tensor], None]:
    @functools.wraps(function)
    def wrapper(x: Tensor) -> None:
        function(x)

    return wrapper


def first(x: Tensor) -> None:
    second(x)


def second(x: Tensor) -> None:
    third(x)


def third(x: Tensor) -> None:
    fourth(x)


class Keeping:
    """Keeps tensors in its class."""

    seen: Seen = []  # noqa: RUF012

    @staticmethod
    def keep(x: Tensor) -> None:
        Keeping.seen.append(x)

    @property
    def kept(self) -> Seen:
        return IN_PROPERTY


class Holds:
    """Keeps tensors where it is told."""

    def keep(self, x: Tensor) -> None:
        raise NotImplementedError


def holding(seen: Seen) -> Holds:
    """Make an object of a class that no function names: its code is found through the object."""

    class Held(Holds):
        def keep(self, x: Tensor) -> None:
            seen.append(x)

    return Held()


IN_HELD: dict[str, Seen] = {"default": [], "keyword": [], "closure": []}


def default_object(x: Tensor, held: Holds = holding(IN_HELD["default"])) -> None:  # noqa: B008
    held.keep(x)


def keyword_object(x: Tensor, *, held: Holds = holding(IN_HELD["keyword"])) -> None:  # noqa: B008
    held.keep(x)


def closing_over_object(held: Holds) -> Callable[[Tensor], None]:
    def function(x: Tensor) -> None:
        held.keep(x)

    return function


def through_a_property(x: Tensor) -> None:
    Keeping().kept.append(x)


IN_PROPERTY: Seen = []
IN_CLOSURE: Seen = []
IN_WRAPPED: Seen = []
IN_FOURTH: Seen = []
closure_object = closing_over_object(holding(IN_HELD["closure"]))
in_closure, fourth = closing_over(IN_CLOSURE), closing_over(IN_FOURTH)
in_wrapped = decorated(closing_over(IN_WRAPPED))


class Model(nn.Module):
    """Calls one of the functions above."""

    def __init__(self, which: str) -> None:
        super().__init__()
        self.which = which

    def forward(self, x: Tensor) -> Tensor:
        if self.which == "default":
            by_default(x)
        elif self.which == "keyword":
            by_keyword(x)
        elif self.which == "closure":
            in_closure(x)
        elif self.which == "wrapped":
            in_wrapped(x)
        elif self.which == "chain":
            first(x)
        elif self.which == "object in a default":
            default_object(x)
        elif self.which == "object in a keyword":
            keyword_object(x)
        elif self.which == "object in a closure":
            closure_object(x)
        elif self.which == "class":
            Keeping.keep(x)
        else:
            through_a_property(x)
        return x


KEPT: dict[str, Seen] = {
    "default": by_default.__defaults__[0],  # type: ignore[index]
    "keyword": by_keyword.__kwdefaults__["seen"],
    "closure": IN_CLOSURE,
    "wrapped": IN_WRAPPED,
    "chain": IN_FOURTH,
    "class": Keeping.seen,
    "property": IN_PROPERTY,
    **{f"object in a {name}": seen for name, seen in IN_HELD.items()},
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("which", KEPT)
def test_what_functions_keep_is_left_as_it_was(which: str, device: str) -> None:
    model, seen = Model(which), KEPT[which]
    seen[:] = [X]
    fmstats.analyze(model, X, device=device)
    assert len(seen) == 1
    assert seen[0] is X
    model(X)
    assert len(seen) == 2  # it is here that it keeps them

"""`Arguments` are those of the forward pass of a model, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch.nn as nn
from torch import Tensor

from fmstats.errors import FmstatsError, list_closest
from fmstats.models.wrappers import read_attribute, unwrap

# Models of speech tell by it how many frames so many samples make.
_FRAMES = "_get_feat_extract_output_lengths"

# A function of the arguments of a forward pass, which gives what is asked of them or None.
Reader = Callable[[tuple[Any, ...], dict[str, Any]], "Tensor | None"]


class GivenCall(NamedTuple):
    """The arguments of a forward pass, as they are given and by their names."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    named: dict[str, Any]


class Arguments:
    """The arguments that a model takes.

    Attributes:
        names: of those that its forward() declares.
        time_first: whether tensors of its own may be (T, N, C).
        windows: whether it is a model of speech, see `fmstats.operations.windows`.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = type(model).__name__
        kinds = inspect.Parameter
        given = inspect.signature(unwrap(model).forward).parameters
        places = (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        self._places = [name for name, each in given.items() if each.kind in places]
        named = {name for name, each in given.items() if each.kind == kinds.KEYWORD_ONLY}
        self.names = {*self._places, *named}
        self._takes_any = any(each.kind == kinds.VAR_KEYWORD for each in given.values())
        self._known = set(self.names)  # and what a pass was given beside them
        parts = list(model.modules())
        orders = {read_attribute(part, "batch_first") for part in parts}
        self.time_first = False in orders and True not in orders
        self.windows = any(read_attribute(part, _FRAMES) is not None for part in parts)

    def check(self, option: str, asked: str | Reader | None) -> None:
        """Refuse the name of an argument that the model does not take.

        Raises:
            FmstatsError: it takes none of that name.
        """
        if isinstance(asked, str) and asked not in self.names and not self._takes_any:
            raise FmstatsError(
                f"{option}={asked!r}: forward() of {self._model} has no such argument; closest: "
                f"{list_closest(asked, self.names)}"
            )

    def choose(self, option: str, names: Mapping[str, object]) -> list[str]:
        """Return those of the names that the model takes.

        Raises:
            FmstatsError: it takes none of them.
        """
        found = [name for name in names if name in self.names]
        if not found:
            raise FmstatsError(
                f"{option}='auto': forward() of {self._model} takes none of {', '.join(names)}; "
                "name its argument, or give a function of its arguments"
            )
        return found

    def given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> GivenCall:
        """Return the arguments of a call; `*0` is the name of the first that has none."""
        named = {**dict(zip(self._places, args, strict=False)), **kwargs}
        named |= {f"*{i}": x for i, x in enumerate(args[len(self._places) :])}
        return GivenCall(args, kwargs, named)

    def read(self, asked: str | Reader, call: GivenCall) -> object:
        """Return what is asked of the arguments of a call.

        Raises:
            FmstatsError: an argument that forward() does not declare, and that no pass was given.
        """
        if callable(asked):
            return asked(call.args, call.kwargs)
        if asked in call.named:
            self._known.add(asked)
        elif asked not in self._known:
            raise FmstatsError(
                f"forward() of {self._model} was given no argument {asked!r}; closest: "
                f"{list_closest(asked, {*self.names, *call.named})}"
            )
        return call.named.get(asked)
